"""A preset as recipe text: what the paper says above it, what is done in another way beside it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

from mixture.errors import RecipeError
from mixture.presets.domains import assign, fit
from mixture.presets.preset import Corpus, Preset, Stage, Want
from mixture.recipe.quantities import tokens
from mixture.scaffold.sources import NamedPaths, block, quoted

_WIDTH = 112
_BYTES = "put your model's here: {kind: huggingface, path: …}; all lengths are its tokens"
_JOIN = "join: {by: repo, order: path}     # all files of a repository become one document; name your fields"


def from_preset(
    preset: Preset,
    name: str,
    *,
    sources: Sequence[NamedPaths] = (),
    tokenizer: str = "",
    pairs: Sequence[tuple[str, str]] = (),
    budget: str | None = None,
) -> str:
    """Return a preset as recipe text.

    Args:
        preset: the preset.
        name: the recipe's.
        sources: your corpus, each source's name also its domain; none: the paper's, to be pointed at.
        tokenizer: as a YAML mapping; empty: bytes, to be replaced.
        pairs: the preset's domain, and yours that plays it; sources of the same name need none.
        budget: as written by a person, over all phases; None: the paper's.

    Raises:
        RecipeError: the domains do not fit; see `mixture.presets.domains`.
    """
    yours = [source.name for source in sources]
    if preset.twin and preset.twin in (*yours, *(mine for _, mine in pairs)):
        raise RecipeError(f"{preset.name} makes a domain {preset.twin!r} of its own; give yours another name")
    mapping = assign(preset, pairs, yours)
    description = f"{preset.name} (arXiv {preset.arxiv}): {preset.summary}"
    lines = [
        *_head(preset),
        f"name: {name}",
        f"description: {json.dumps(description, ensure_ascii=False)}",
        "",
        f"tokenizer: {tokenizer}" if tokenizer else _noted("tokenizer: {kind: bytes}", _BYTES),
        "",
        "sources:",
        *(_yours(preset, sources, mapping) if sources else _published(preset, mapping)),
        *(["", preset.picks.rstrip()] if preset.picks else []),
        "",
        *_stages(preset, mapping, budget),
        "",
        _noted("holdout: 0.005", "ours: documents that no plan ever draws, to validate with"),
    ]
    if "duplicates:" not in preset.picks:
        lines.append(_noted("duplicates: keep-first", "equal texts: the first stays"))
    lines.append(_noted(f"packing: {preset.packing}", preset.packed))
    if preset.transforms:
        lines.append(f"transforms: {preset.transforms}")
    lines += ["seed: 42", ""]
    return "\n".join(lines)


def notices(
    preset: Preset, sources: Sequence[NamedPaths], tokenizer: str, pairs: Sequence[tuple[str, str]]
) -> list[str]:
    """Return what a person should know of a recipe made by `from_preset`, a sentence each."""
    yours = [source.name for source in sources]
    mapping = assign(preset, pairs, yours)
    left_out = [name for name in preset.domains if name not in mapping]
    idle = [name for name in yours if preset.domains and name not in mapping.values()]
    said = []
    if left_out:
        said.append(f"left out, for no domain of yours plays them: {', '.join(left_out)}; the others are scaled")
    if idle:
        but = f" but what `{preset.twin}` takes" if preset.twin else ""
        said.append(
            f"nothing is drawn of {', '.join(idle)}{but}: say with --domains what they play, or leave them away"
        )
    if not tokenizer:
        said.append("lengths and budget count bytes until the recipe has your model's tokenizer")
    return said


def _noted(line: str, note: str) -> str:
    """Put a comment behind a line, in the column that recipes have them in."""
    return f"{line:<38} # {note}" if note else line


def _head(preset: Preset) -> Iterator[str]:
    yield from _comment(f"{preset.paper}.")
    yield "#"
    yield from _comment(preset.story)
    yield "#"
    yield from _comment(f"What differs here: {preset.differs}")
    if preset.trainer:
        yield "#"
        yield from _comment(f"The paper's trainer, which this file does not say: {preset.trainer}")
    yield "#"
    yield "# What is made; where it runs is said on the command line. Every key: docs/recipe.md."
    yield "# yaml-language-server: $schema=recipe.schema.json"


def _comment(text: str, indent: str = "") -> list[str]:
    lead = f"{indent}# "
    return textwrap.wrap(
        text, _WIDTH, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False, break_long_words=False
    )


def _published(preset: Preset, mapping: Mapping[str, str]) -> Iterator[str]:
    yield "  # The paper's corpus: point the paths at yours, and name its fields."
    for corpus in preset.corpora:
        source = NamedPaths(corpus.name, corpus.paths)
        more = f"    {_JOIN}\n" if corpus.repository else ""
        yield block(source, _domain(corpus, mapping), more).rstrip()
        yield from _twin(preset, source)


def _domain(corpus: Corpus, mapping: Mapping[str, str]) -> str:
    if corpus.domain:
        return quoted(mapping.get(corpus.domain, corpus.domain))
    if corpus.domain_path:
        return f"{{path: {json.dumps(corpus.domain_path)}}}   # the folder's name"
    renamed = [f"        {found}: {quoted(mapping.get(name, name))}" for found, name in corpus.values.items()]
    return "\n".join(["", f"      field: {corpus.domain_field}", "      map:", *renamed])


def _yours(preset: Preset, sources: Sequence[NamedPaths], mapping: Mapping[str, str]) -> Iterator[str]:
    repositories = {corpus.domain for corpus in preset.corpora if corpus.repository}
    for source in sources:
        if preset.domains and source.name not in mapping.values():
            only = f" but what `{preset.twin}` takes" if preset.twin else ""
            yield f"  # Nothing is drawn of it{only}: it plays none of the preset's domains. See --domains."
        joined = any(mapping.get(domain) == source.name for domain in repositories)
        more = f"    # If a row is one file:\n    # {_JOIN}\n" if joined and source.format != "text" else ""
        yield block(source, quoted(source.name), more).rstrip()
        yield from _twin(preset, source)


def _twin(preset: Preset, source: NamedPaths) -> Iterator[str]:
    if preset.twin:
        again = NamedPaths(f"{source.name}-{preset.twin}", source.pattern)
        yield block(again, f"{preset.twin:<26} # the same files once more; they are stored once").rstrip()


def _stages(preset: Preset, mapping: Mapping[str, str], budget: str | None) -> Iterator[str]:
    budgets = _budgets(preset, budget)
    buckets = _noted(f"buckets: [{', '.join(preset.buckets)}]", "edges between length buckets")
    if len(preset.stages) == 1:
        (stage,) = preset.stages
        yield _noted(f"budget: {budgets[0]}", "real tokens to write, separators included: M, B, T are decimal")
        yield _noted(f"sequence: {_sequence(preset, stage)}", "lengths: K is 1024")
        yield buckets
        yield ""
        yield "mix:"
        yield from _mix(preset, stage, mapping, "  ")
        return
    yield buckets
    yield ""
    yield _noted("phases:", "one after the other; caps hold over all")
    for stage, tokens_of_it in zip(preset.stages, budgets, strict=True):
        yield f"  - name: {stage.name}"
        yield f"    budget: {tokens_of_it}"
        yield f"    sequence: {_sequence(preset, stage)}"
        yield _noted("    mix:", stage.why)
        yield from _mix(preset, stage, mapping, "      ")


def _budgets(preset: Preset, budget: str | None) -> list[str]:
    """Return each stage's budget: the paper's, or the one given, shared as the paper shares it."""
    if budget is None or len(preset.stages) == 1:
        return [budget or stage.budget for stage in preset.stages]
    try:
        total = tokens(budget)
    except ValueError as error:
        raise RecipeError(f"--budget: {error}") from error
    theirs = [tokens(stage.budget) for stage in preset.stages]
    ends = [0, *(total * sum_ // sum(theirs) for sum_ in accumulate(theirs))]
    return [_short(stop - start) for start, stop in pairwise(ends)]


def _short(count: int) -> str:
    """Write a budget as people do where that is exact: 500M."""
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if count and not count % size:
            return f"{count // size}{unit}"
    return str(count)


def _sequence(preset: Preset, stage: Stage) -> str:
    return f"{{length: {stage.length}, separator: {preset.separator}}}"


def _mix(preset: Preset, stage: Stage, mapping: Mapping[str, str], indent: str) -> Iterator[str]:
    if isinstance(stage.domains, str):
        yield f"{indent}domains: {stage.domains}"
    else:
        yield from _left_out(preset, stage.domains, mapping, indent)
        yield f"{indent}domains:"
        for name, want in fit(preset, stage.domains, mapping).items():
            plays = [mine for mine, yours in mapping.items() if yours == name]
            note = "" if plays in ([], [name]) else " + ".join(plays)
            yield _noted(f"{indent}  {quoted(name)}: {_want(want)}", note)
    yield f"{indent}lengths: {stage.lengths}"
    yield _noted(f"{indent}max_epochs: {preset.max_epochs}", "no document more often than this")
    yield _noted(f"{indent}on_shortage: error", "or: redistribute, repeat")


def _want(want: Want) -> str:
    share = _number(want.share)
    return f"{{share: {share}, lengths: {want.lengths}}}" if want.lengths else share


def _number(share: float) -> str:
    return f"{share:.8f}".rstrip("0").rstrip(".")


def _left_out(preset: Preset, wants: Mapping[str, Want], mapping: Mapping[str, str], indent: str) -> list[str]:
    missing = [name for name in wants if name not in mapping and name != preset.twin]
    if not missing:
        return []
    parts = {want.part for want in wants.values()}
    kept = " inside their part of the mixture" if len(parts) > 1 else ""
    shares = ", ".join(f"{name} {_number(wants[name].share)}" for name in missing)
    text = f"Left out, for no domain of yours plays them: {shares}. The others are scaled{kept}, so that all sum to 1."
    return _comment(text, indent)
