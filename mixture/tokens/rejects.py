"""Bad rows: counted by reason, a few of them kept as samples, and the sentence where there are too many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mixture.corpus.documents import Chunk, InputFile
from mixture.recipe import Recipe
from mixture.tokens.shares import with_first_rows

#: Samples that one record keeps.
SAMPLES = 5


def count(chunks: Sequence[tuple[int, Chunk]]) -> dict[str, int]:
    """Count the bad rows of chunks by reason."""
    return total({reject.reason: 1} for _, chunk in chunks for reject in chunk.rejects)


def total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add counts up, reason by reason."""
    out: dict[str, int] = {}
    for one in counts:
        for reason, number in one.items():
            out[reason] = out.get(reason, 0) + number
    return out


def samples(chunks: Sequence[tuple[int, Chunk]], inputs: Sequence[InputFile]) -> list[dict[str, Any]]:
    """Return the first few bad rows, counted from the first row that the chunks hold of a file."""
    found: list[dict[str, Any]] = []
    for number, first, chunk in with_first_rows(chunks):
        for reject in chunk.rejects[: SAMPLES - len(found)]:
            place = {"file": inputs[number].name, "row": reject.row + first}
            found.append(place | {"reason": reject.reason, "sample": reject.sample})
    return found


def described(found: Sequence[dict[str, Any]]) -> list[str]:
    """Say where sampled bad rows are, and what is wrong with them."""
    return [f"{s['file']}, row {s['row']:,}{s.get('within', '')}: {s['reason']} ({s['sample']!r})" for s in found]


def allowed(recipe: Recipe) -> int:
    """Return how many bad rows a recipe puts up with."""
    return recipe.max_bad_rows if recipe.on_bad_row == "skip" else 0


def too_many(bad: int, most: int, places: Sequence[str]) -> str:
    """Return the sentence for more bad rows than allowed."""
    return (
        f"{bad:,} bad rows, {most:,} allowed; one of them: {places[0]}; mend them, or raise max_bad_rows with "
        "on_bad_row: skip"
    )


def no_document(source: str, files: Sequence[InputFile], rows: int, places: Sequence[str]) -> str:
    """Return the sentence for a source in which every row is bad, or that has none."""
    more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    why = f", the first bad one {places[0]}" if places else ""
    return (
        f"source {source!r} holds no document: {rows:,} rows in {files[0].name}{more}{why}; check paths and the "
        "text field, or take the source out of the recipe"
    )
