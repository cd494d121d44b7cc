"""What a contamination gate found, for the terminal: by domain, by evaluation file, and the worst documents."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from mixture.report.tables import share, short, visible
from mixture.scores.findings import Findings, Worst

_EXCERPT = 160


def contamination_tables(found: Findings) -> list[RenderableType]:
    """All that `mixture decontaminate` shows of one gate."""
    tables = [_domains(found)]
    if found.files:
        tables.append(_files(found))
    return [*tables, *_worst(found.worst)]


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _domains(found: Findings) -> Table:
    files, n = found.record["files"], found.record["ngram"]
    ngrams, whole = (sum(file[key] for file in files) for key in ("ngrams", "whole"))
    short_ones = f" and {whole:,} shorter texts" if whole else ""
    title = f"{found.name}: {ngrams:,} n-grams of {n} tokens{short_ones} from {len(files):,} evaluation files"
    table = _table(title, ["domain"], ["documents", "flagged", "%", "tokens", "in flagged", "% of tokens"])
    rows = [(d.domain, d.documents, d.flagged_documents, d.tokens, d.flagged_tokens) for d in found.domains]
    totals = [sum(numbers) for numbers in list(zip(*rows, strict=True))[1:]] or [0, 0, 0, 0]
    for domain, documents, flagged, tokens, inside in [*rows, ("all", *totals)]:
        if domain == "all" and len(table.rows) == len(rows):
            table.add_section()
        counts = (f"{documents:,}", f"{flagged:,}", share(flagged, documents))
        table.add_row(domain, *counts, short(tokens), f"{inside:,}", share(inside, tokens))
    return table


def _files(found: Findings) -> Table:
    table = _table("evaluation files met", ["file"], ["documents", "n-grams shared"])
    for file in found.files[:10]:
        table.add_row(file.name, f"{file.documents:,}", f"{file.ngrams:,}")
    return table


def _worst(worst: Sequence[Worst]) -> list[RenderableType]:
    if not worst:
        return []
    lines = ["worst documents"]
    for one in worst:
        text = visible(" ".join(one.excerpt.split()))
        cut = text[:_EXCERPT] + (" …" if len(text) > _EXCERPT else "")
        lines.append(
            f"  {one.doc_id}  {one.domain}  {one.input_file}, row {one.input_row:,}: {one.ngrams:,} n-grams, "
            f"{one.longest:,} of {one.n_tokens:,} tokens on end"
        )
        lines.append(f"      {one.evaluation_file}: {cut}")
    return ["\n".join(lines)]
