"""What a gate found, over the documents of an index: by domain, by evaluation file, and the worst documents.

    index (doc_id, domain, n_tokens, …)  ┐      by domain  books  1,200 documents, 3 flagged, 410,000 tokens in them
    hits (doc_id, file, ngrams, …)       ┘  ─▶  by file    eval/qa.jsonl  2 documents, 4,100 n-grams
                                                worst      9f3c…, books, corpus/books-00.jsonl.zst row 17: 4,090 n-grams

Hits are few, so DuckDB joins a small table to the index, within its memory limit. Equal texts have equal hits, whatever
part of the store they lie in; they count once for each row of the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from mixture.errors import StoreError
from mixture.hashing import fingerprint
from mixture.scores.contamination import Searched
from mixture.scores.evaluation import read_evaluation
from mixture.storage import Place, local, read_record, write_json
from mixture.tokens.store import damaged
from mixture.tokens.tokenizer import Tokenizer

_MEMORY_LIMIT = "2GB"
#: Tokens of an evaluation text that are shown.
_SHOWN = 48
_NO_HITS = """SELECT NULL::BLOB AS doc_id, 0 AS file, 0 AS ngrams, 0 AS longest, 0 AS place, 0 AS size WHERE false"""


@dataclass(frozen=True)
class DomainCount:
    """One domain: all its documents, and those that share something with an evaluation file."""

    domain: str
    documents: int
    tokens: int
    flagged_documents: int
    flagged_tokens: int


@dataclass(frozen=True)
class FileCount:
    """One evaluation file, and how many documents share how many n-grams with it."""

    name: str
    documents: int
    ngrams: int


@dataclass(frozen=True)
class Worst:
    """A document that shares much.

    Attributes:
        doc_id: 32 hex digits.
        domain: its domain.
        input_file: the file that it was read from.
        input_row: its row there.
        n_tokens: its tokens.
        ngrams: how many of its n-grams stand in evaluation files.
        longest: tokens of the longest stretch of it that stands there.
        evaluation_file: where that stretch stands.
        excerpt: text of the evaluation file where it begins.
    """

    doc_id: str
    domain: str
    input_file: str
    input_row: int
    n_tokens: int
    ngrams: int
    longest: int
    evaluation_file: str
    excerpt: str


@dataclass(frozen=True)
class Findings:
    """What a gate found.

    Attributes:
        name: of the gate and its column.
        patterns: its evaluation files, as they were asked for.
        record: what was looked for.
        domains: by name.
        files: those that were met, the most n-grams first.
        worst: documents, the most n-grams first.
    """

    name: str
    patterns: tuple[str, ...]
    record: dict[str, Any]
    domains: tuple[DomainCount, ...]
    files: tuple[FileCount, ...]
    worst: tuple[Worst, ...]

    @property
    def flagged(self) -> int:
        """Documents of all domains that share something."""
        return sum(count.flagged_documents for count in self.domains)

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return asdict(self)


def findings(gate: Searched, index: Place, tokenizer: Tokenizer, *, most: int = 10) -> Findings:
    """Return what a gate found among the documents of an index.

    Args:
        gate: what was searched.
        index: the index file.
        tokenizer: turns excerpts into text.
        most: worst documents to tell of.

    Raises:
        StoreError: the index or the scores cannot be read.
    """
    wanted, _ = read_evaluation(gate.evaluation)
    names = [file["name"] for file in gate.record["files"]]
    found = f"FROM hits JOIN read_parquet({_quoted([index])}) AS documents USING (doc_id)"
    by_file = f"SELECT file, count(DISTINCT doc_id), sum(ngrams)::BIGINT {found} GROUP BY file ORDER BY 3 DESC, 1"
    by_document = f"""
        SELECT lower(hex(doc_id)), domain, input_file, input_row, n_tokens, sum(ngrams)::BIGINT AS shared,
               max(longest), arg_max(file, (longest, -file)), arg_max(place, (longest, -file)),
               arg_max(size, (longest, -file)) {found}
        GROUP BY doc_id, domain, input_file, input_row, n_tokens ORDER BY shared DESC, 1, 2, 3, 4 LIMIT {most}"""
    worst = []
    for *where, n_tokens, ngrams, longest, file, place, size in _ask(gate, index, by_document):
        text = tokenizer.decode(wanted.tokens[place : place + min(size, _SHOWN)])
        identity, domain, input_file, row = where
        worst.append(Worst(identity, domain, input_file, row, n_tokens, ngrams, longest, names[file], text))
    return Findings(
        gate.table.name,
        gate.patterns,
        gate.record,
        tuple(DomainCount(*row) for row in _ask(gate, index, _domain_query(index))),
        tuple(FileCount(names[file], *counts) for file, *counts in _ask(gate, index, by_file)),
        tuple(worst),
    )


def with_flagged(gate: Searched, index: Place) -> dict[str, Any]:
    """Return a gate's record and what it flagged: documents and tokens, by domain; that is kept beside the index.

    Args:
        gate: what was searched.
        index: the index file.

    Raises:
        StoreError: the index or the scores cannot be read.
    """
    kept = index.parent / f"flagged-{fingerprint(gate.record)}.json"
    record = read_record(kept, "flagged")
    if record is None:
        counts = [DomainCount(*row) for row in _ask(gate, index, _domain_query(index))]
        flagged = {
            c.domain: {"documents": c.flagged_documents, "tokens": c.flagged_tokens}
            for c in counts
            if c.flagged_documents
        }
        record = {"flagged": flagged}
        write_json(kept, record)
    return gate.record | record


def _domain_query(index: Place) -> str:
    return f"""
        SELECT domain, count(*), sum(n_tokens)::BIGINT, count(found.doc_id),
               coalesce(sum(n_tokens) FILTER (found.doc_id IS NOT NULL), 0)::BIGINT
        FROM read_parquet({_quoted([index])}) AS documents
        LEFT JOIN (SELECT DISTINCT doc_id FROM hits) AS found ON documents.doc_id = found.doc_id
        GROUP BY domain ORDER BY domain"""  # noqa: S608 - a path of ours


def _ask(gate: Searched, index: Place, query: str) -> list[tuple[Any, ...]]:
    hits = f"SELECT DISTINCT * FROM read_parquet({_quoted(gate.hits)})" if gate.hits else _NO_HITS  # noqa: S608
    try:
        with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT}) as db:
            db.execute(f"CREATE TEMP VIEW hits AS {hits}")
            return db.execute(query).fetchall()
    except duckdb.Error as error:
        raise StoreError(damaged(index, error)) from error


def _quoted(paths: Sequence[Place]) -> str:
    marked = ("'" + str(local(path).absolute()).replace("'", "''") + "'" for path in paths)
    return f"[{', '.join(marked)}]"
