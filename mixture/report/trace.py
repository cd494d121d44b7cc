"""Tables and sentences for `mixture trace`: a sequence, a place, a step, a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mixture.report.tables import visible

#: Rows of a list that people are shown; `--json` has all.
_MOST = 40
_DIGITS = 16


def sequence(answer: dict[str, Any]) -> list[RenderableType]:
    """Show what stands in a sequence, by its places."""
    rows = [(span["start"], _stretch(span), *_document(span), *_source(span)) for span in answer["documents"]]
    rows += [(start, f"{start:,}-{stop - 1:,}", "padding") for start, stop in answer["padding"]]
    rows += [(place, f"{place:,}", "mark") for place in answer["marks"]]
    columns = ("places", "domain", "document", "its tokens", "copy", "file", "row")
    pictures = [_table(_title(answer), columns, [row[1:] for row in sorted(rows)])]
    return [*pictures, *([answer["sources_unknown"]] if answer["sources_unknown"] else [])]


def token(answer: dict[str, Any]) -> list[RenderableType]:
    """Say what stands at a place, and show its text with the token marked."""
    number = "" if answer["id"] is None else f", token id {answer['id']}"
    lines = [f"{_title(answer)}, place {answer['place']:,}: {answer['kind']}{number}"]
    span = answer.get("document")
    if span is None:
        return ["\n".join(lines)]
    own = f"token {answer['offset']:,} of {span['length']:,}" if answer["kind"] == "document" else answer["kind"]
    lines.append(f"{own} of document {span['doc_id']}, copy {span['copy']}, domain {span['domain']}")
    if span.get("file") is not None:
        lines.append(f"read from {span['file']}, row {span['row']:,} (source {span['source']})")
    if "member" in answer:
        member = answer["member"]
        lines.append(f"this part of it from {member['file']}, row {member['row']:,}, byte {member['byte']:,}")
    if answer.get("text_unknown"):
        lines.append(f"text: not shown, {answer['text_unknown']}")
    if answer.get("equal"):
        lines.append("equal: the tokens in the shard are those of the tokenized source")
    elif answer.get("text"):
        lines.append("not compared with a shard: it is not here")
    return ["\n".join(lines), *([_excerpt(answer["text"])] if answer.get("text") else [])]


def _excerpt(text: dict[str, Any]) -> Text:
    before, token, after = (visible(text[name]) for name in ("before", "token", "after"))
    whole = Text(f"…{before}")
    whole.append(f"⟦{token}⟧", "bold reverse")
    return whole.append(f"{after}…")


def step(answer: dict[str, Any]) -> list[RenderableType]:
    """Show the domains of a step, and its documents."""
    first, stop = answer["sequences"]
    title = (
        f"step {answer['step']:,}{_phase(answer)}: sequences {first:,}-{stop - 1:,}, {answer['tokens']:,} tokens of "
        f"documents, {answer['padding']:,} of padding, {answer['marks']:,} marks"
    )
    domains = [
        (d["domain"], f"{d['tokens']:,}", f"{100 * d['tokens'] / answer['tokens']:.1f}", f"{d['documents']:,}")
        for d in answer["domains"]
    ]
    rows = [(f"{span['sequence']:,}", _stretch(span), *_document(span)) for span in answer["documents"]]
    columns = ("sequence", "places", "domain", "document", "its tokens", "copy")
    return [
        _table(title, ("domain", "tokens", "share %", "documents"), domains),
        _table("documents", columns, rows),
    ]


def document(answer: dict[str, Any]) -> list[RenderableType]:
    """Show where a document comes from, and where its copies stand."""
    lines = [f"document {answer['doc_id']}"]
    for origin in answer["origins"]:
        equal = f", {origin['occurrence'] + 1} of {origin['occurrences']} equal texts"
        lines.append(
            f"  {origin['file']}, row {origin['row']:,} (source {origin['source']}): domain {origin['domain']}, "
            f"{origin['n_tokens']:,} tokens, {origin['n_bytes']:,} bytes{equal if origin['occurrences'] > 1 else ''}"
        )
        members = origin["members"]
        lines += [
            f"    joined from {m['file']}, row {m['row']:,}, at byte {m['byte_start']:,}" for m in members[:_MOST]
        ]
        lines += [f"    and {len(members) - _MOST:,} rows more"] if len(members) > _MOST else []
    pictures: list[RenderableType] = ["\n".join(lines)]
    for phase in answer["phases"]:
        pictures += _copies(phase)
    return pictures


def _copies(phase: dict[str, Any]) -> list[RenderableType]:
    rows = [
        (
            f"{copy['copy']}",
            copy["domain"],
            f"{place['sequence']:,}",
            *([f"{place['step']:,}"] if "step" in place else []),
            _stretch(place),
            _offsets(place),
        )
        for copy in phase["copies"]
        for place in copy["places"]
    ]
    steps = any("step" in place for copy in phase["copies"] for place in copy["places"])
    columns = ("copy", "domain", "sequence", *(["step"] if steps else []), "places", "tokens of the document")
    copies = "one copy" if len(phase["copies"]) == 1 else f"{len(phase['copies'])} copies"
    title = f"{copies}, in {len(rows):,} stretches of sequences{_phase(phase)}"
    where = f"phase {phase['phase']}: " if phase["phase"] else ""
    told: list[RenderableType] = [f"{where}{row['why']} ({row['domain']})" for row in phase["not_drawn"]]
    return ([_table(title, columns, rows)] if rows else []) + told


def read_sentences(answer: dict[str, Any]) -> str:
    """Say what became of a row of an input file."""
    return "\n".join(
        f"{answer['file']}, row {answer['row']:,} (source {read['source']}): {read['became']}"
        for read in answer["read"]
    )


def _title(answer: dict[str, Any]) -> str:
    return f"sequence {answer['sequence']:,}{_phase(answer)}, from the {answer['from']}"


def _phase(answer: dict[str, Any]) -> str:
    return f" of phase {answer['phase']}" if answer["phase"] else ""


def _stretch(span: dict[str, Any]) -> str:
    return f"{span['start']:,}-{span['stop'] - 1:,}"


def _offsets(span: dict[str, Any]) -> str:
    return f"{span['offset']:,}-{span['offset'] + span['stop'] - span['start'] - 1:,}"


def _document(span: dict[str, Any]) -> tuple[str, ...]:
    own = f"{_offsets(span)} of {span['length']:,}"
    return span["domain"], span["doc_id"][:_DIGITS], own, f"{span['copy']}"


def _source(span: dict[str, Any]) -> tuple[str, str]:
    return ("·", "·") if span["file"] is None else (span["file"], f"{span['row']:,}")


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    table = Table(header_style="bold")
    left = {"domain", "document", "file"}
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=name != "file", overflow="fold")
    for row in rows[:_MOST]:
        table.add_row(*row)
    rest = [f"and {len(rows) - _MOST:,} more; --json lists all"] if len(rows) > _MOST else []
    # A title of the table itself would be folded to the table's width.
    return Group(title, table, *rest)
