"""The relate stage: an index and its tokens in, a place on a path for every document of some domains out.

    work/related/<key>/domain-0003-block-00001.parquet   the path of one block of one domain, see `block`
    work/related/<key>/domain-0003-block-00001.json      its record: this block is whole
    work/related/<key>/related.json                      written last

The key holds the documents, the tokenizer and the method. Seed, budget, weights and edges are not in it: to change
them reads no token. How long related documents stay together is decided by the plan, which reads these tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mixture.engine import Engine, Progress, Task
from mixture.errors import PlanError, StoreError, nearest
from mixture.hashing import fingerprint
from mixture.index.build import Index
from mixture.patterns import expand
from mixture.recipe import Recipe
from mixture.recipe.packing import Related
from mixture.related.block import Source, record_path
from mixture.storage import Place, as_place, read_record, remove, size_of, write_json
from mixture.storage.tables import open_parquet
from mixture.tokens.ingest import Store
from mixture.tokens.inputs import content_hashes
from mixture.tokens.store import damaged
from mixture.workspace import Workspace

_FORMAT_VERSION = 1
#: Documents in a block, about, at most.
BLOCK_DOCUMENTS = 1 << 15
_WHOLE = 1 << 64


@dataclass(frozen=True)
class Relations:
    """What the stage leaves.

    Attributes:
        folder: the blocks' files.
        domains: names of the index's domains, sorted; files number them.
        blocks: how many blocks each related domain has, by name; a power of two.
        tokens: of each related domain, by name.
        record: what relates documents, and a digest of all paths: for the lock.
        made: whether this run made any of it.
    """

    folder: Place
    domains: tuple[str, ...]
    blocks: dict[str, int]
    tokens: dict[str, int]
    record: dict[str, Any]
    made: bool


def block_file(folder: Place, domain: int, block: int) -> Place:
    """Return the file of one block of a domain, by its number."""
    return folder / f"domain-{domain:04d}-block-{block:05d}.parquet"


def block_count(documents: int) -> int:
    """Return into how many blocks a domain's documents are divided: a power of two.

    >>> [block_count(n) for n in (1, 32768, 32769, 100_000)]
    [1, 1, 2, 4]
    """
    return 1 << (-(-documents // BLOCK_DOCUMENTS) - 1).bit_length() if documents else 1


def block_range(block: int, blocks: int) -> tuple[int, int]:
    """Return the leading words [first, stop) of a block's ids."""
    width = _WHOLE // blocks
    return block * width, (block + 1) * width


@dataclass(frozen=True)
class Relater:
    """Finds or makes the relations that a recipe asks for.

    Attributes:
        recipe: its transform `related` says what relates documents.
        rule: that transform.
        store: the tokens.
        index: the documents.
        workspace: where things lie.
        engine: where tasks run.
        progress: who is told.
    """

    recipe: Recipe
    rule: Related
    store: Store
    index: Index
    workspace: Workspace
    engine: Engine
    progress: Progress

    def relations(self) -> Relations:
        """Return the relations; read tokens only for blocks that are not there.

        Raises:
            PlanError: the recipe names a domain or a column that is not there.
            InputError: the column holds no vectors.
        """
        documents, tokens = self._supply()
        blocks = {name: block_count(count) for name, count in documents.items()}
        source, contents = self._source()
        about = {"by": self.rule.by} | ({"column": self.rule.column} if self.rule.column else {})
        what = {"version": _FORMAT_VERSION, "tokenizer": self.store.tokenizer.fingerprint, "vectors": contents}
        key = fingerprint(about | what | {"documents": self.index.digest, "blocks": blocks})
        folder = self.workspace.related(key)
        tasks = list(self._tasks(folder, blocks, documents))
        missing = [task for task in tasks if _record(as_place(task.arguments["target"])) is None]
        record = read_record(folder / "related.json", "key", "digest", "documents", "without", "files")
        self._run(missing, sum(documents.values()), folder, source)
        if record is None or missing:
            # What the tasks were told is of no use any more, and nobody vouches for it.
            remove(folder / "source.json")
            record = {"key": folder.name} | _total(tasks)
            write_json(folder / "related.json", record)
        said = {name: record[name] for name in ("documents", "without", "digest")}
        return Relations(folder, source.domains, blocks, tokens, about | said, bool(missing))

    def _supply(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the documents and tokens of the domains whose documents are to be related."""
        known = self.index.census.domains
        for name in self.rule.domains:
            if name not in known:
                raise PlanError(
                    f"transforms.related.domains: {name!r} is not a domain of this corpus; {nearest(name, known)}"
                )
        chosen = sorted(set(self.rule.domains or known))
        cells = self.index.census.cells
        documents = {name: sum(row.documents for row in cells if row.domain == name) for name in chosen}
        tokens = {name: sum(row.tokens for row in cells if row.domain == name) for name in chosen}
        return documents, tokens

    def _source(self) -> tuple[Source, list[str]]:
        """Return what tasks read, and the content hashes of the vectors' files."""
        index = self.index
        fixed = (str(index.table), str(index.parts), str(self.store.folder), index.census.domains, self.rule.by)
        if self.rule.column is None:
            return Source(*fixed), []
        for score in self.recipe.scores:
            paths = [found.path for found in expand((score.table,), (), self.workspace.data)] if score.table else []
            if paths and self.rule.column in _columns(paths[0]):
                hashes = content_hashes(paths, self.workspace, self.engine)
                tables = tuple(map(str, paths))
                return Source(*fixed, self.rule.column, tables), sorted(found for _, found in hashes.values())
        carried = [name for source in self.recipe.sources for name in source.carry]
        if self.rule.column in carried and self.rule.column in _columns(index.table):
            # The index's key knows which rows carry what; its digest knows only which documents there are.
            return Source(*fixed, self.rule.column), [index.folder.name]
        raise PlanError(
            f"transforms.related.column: {self.rule.column!r} is neither carried by a source nor a column of a table "
            f"in scores; {nearest(self.rule.column, carried)}"
        )

    def _tasks(self, folder: Place, blocks: dict[str, int], documents: dict[str, int]) -> Iterator[Task]:
        names = self.index.census.domains
        for name, count in blocks.items():
            number = names.index(name)
            for block in range(count):
                first, stop = block_range(block, count)
                arguments = {
                    "source": str(folder / "source.json"),
                    "domain": number,
                    "first": first,
                    "stop": stop,
                    "block": block,
                    "target": str(block_file(folder, number, block)),
                }
                share = documents[name] * (block + 1) // count - documents[name] * block // count
                label = f"{name}, block {block + 1} of {count}"
                yield Task("mixture.related.block:relate_block", arguments, share, label)

    def _run(self, missing: list[Task], documents: int, folder: Place, source: Source) -> None:
        done = documents - sum(task.weight for task in missing)
        self.progress.start("relate", "documents or what relates them are new", "documents", documents, done)
        if missing:
            source.write(folder / "source.json")
        for task, _ in self.engine.run(missing, "plan"):
            self.progress.advance(task.weight)
        self.progress.finish()


def _columns(path: Place) -> list[str]:
    try:
        return list(open_parquet(path).schema_arrow.names)
    except (OSError, ValueError) as error:
        raise StoreError(damaged(path, error)) from error


def _record(target: Place) -> dict[str, Any] | None:
    """Return the record of a block, or None if the block is not whole."""
    record = read_record(record_path(target), "file", "documents", "without", "digest", "size", "hash")
    return record if record and size_of(target) == record["size"] else None


def _total(tasks: list[Task]) -> dict[str, Any]:
    records = [_record(as_place(task.arguments["target"])) or {} for task in tasks]
    return {
        "digest": fingerprint([record["digest"] for record in records]),
        "documents": sum(record["documents"] for record in records),
        "without": sum(record["without"] for record in records),
        "files": {record["file"]: [record["size"], record["hash"]] for record in records},
    }
