"""The bucket stage: the store's parts, joined and sorted into one table; no token is read.

Parts' rows get their source, domain and carried columns, and `index.sort` sorts them by id.

Length buckets are not here. Edges are a question asked of the index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mixture import schemas
from mixture.engine import Progress
from mixture.errors import InputError, StoreError
from mixture.hashing import fingerprint
from mixture.index.census import Census, take_census
from mixture.index.origins import how_read, write_stretches
from mixture.index.sort import sort_index, staged_name
from mixture.recipe import Recipe
from mixture.recipe.sources import DomainRule, Source
from mixture.storage import Place, exists, prefetch, read_json, read_record, workbench, write_json
from mixture.storage.tables import open_parquet
from mixture.tokens.ingest import Store, StoredPart
from mixture.tokens.store import damaged, read_parquet, widest
from mixture.workspace import Workspace

_FORMAT_VERSION = 4
_FIELDS = ("documents", "tokens", "duplicates", "no_domain", "digest")


@dataclass(frozen=True)
class Index:
    """The document index of a recipe's sources.

    Attributes:
        folder: holds `index.parquet`, `parts.json`, `census.json`, `stretches.parquet` (`index.origins`), and the
            record.
        documents: documents in it.
        tokens: their tokens.
        duplicates: exact duplicates, dropped (`keep-first`) or numbered (`keep`).
        no_domain: documents left out because their domain field holds nothing.
        digest: hash of the set of (id, domain, tokens): equal for equal documents, wherever they lay.
        census: documents and tokens by domain and power of two.
        made: whether this run made it.
    """

    folder: Place
    documents: int
    tokens: int
    duplicates: int
    no_domain: int
    digest: str
    census: Census
    made: bool

    @property
    def table(self) -> Place:
        """The Parquet file, sorted by document id."""
        return self.folder / "index.parquet"

    @property
    def parts(self) -> Place:
        """The names of the parts that it numbers, as a JSON list."""
        return self.folder / "parts.json"


def bucket(recipe: Recipe, store: Store, workspace: Workspace, progress: Progress) -> Index:
    """Build the index of a store's parts, or find it built.

    Raises:
        InputError: documents have no domain, and the recipe stops at bad rows.
    """
    key = _key(recipe, store)
    folder = workspace.index(key)
    record = _whole_record(folder)
    made = record is None
    why = "the store or the rules for domains changed"
    progress.start("bucket", why, "documents", store.documents, 0 if made else store.documents)
    if record is None:
        record = _build(recipe, store, folder, progress)
        if not record["documents"]:
            raise InputError(
                f"none of {store.documents:,} documents has a value in its domain field; name another field or a "
                "constant domain"
            )
        names = [part.name for part in store.parts]
        write_json(folder / "parts.json", names)
        census_rows = take_census(folder / "index.parquet").rows()
        write_json(folder / "census.json", census_rows)
        columns = {part.unit.key: part.columns for part in store.parts if part.columns}
        record |= {"parts": fingerprint(names), "census": fingerprint(census_rows), "columns": columns}
        record |= {"stretches": write_stretches(folder / "stretches.parquet", store)}
    how = how_read(recipe, store, workspace)
    # The same vocabulary under another name is the same index, but is found elsewhere.
    if record.get("how") != how:
        record |= {"how": how, "key": folder.name}
        write_json(folder / "index.json", record)
    progress.finish()
    census = _read_census(folder / "census.json")
    return Index(folder=folder, census=census, made=made, **{name: record[name] for name in _FIELDS})


def _whole_record(folder: Place) -> dict[str, Any] | None:
    record = read_record(folder / "index.json", *_FIELDS, "key", "file")
    files = ("index.parquet", "parts.json", "census.json", "stretches.parquet")
    whole = all(exists(folder / name) for name in files)
    return record if whole else None


def _read_census(path: Place) -> Census:
    try:
        census = Census.from_rows(read_json(path))
    except TypeError as error:
        raise StoreError(damaged(path, error)) from error
    if not census.cells:
        raise StoreError(damaged(path, ValueError("it counts nothing")))
    return census


def _key(recipe: Recipe, store: Store) -> str:
    rules = [[s.name, s.domain.model_dump(mode="json"), list(s.carry)] for s in recipe.sources]
    parts = [
        [part.unit.source.name, part.name, [f.name for f in part.unit.named], part.columns] for part in store.parts
    ]
    how = {"version": _FORMAT_VERSION, "duplicates": recipe.duplicates, "bad": recipe.on_bad_row == "skip"}
    return fingerprint({"store": store.folder.name, "how": how, "rules": rules, "parts": parts})


def _build(recipe: Recipe, store: Store, folder: Place, progress: Progress) -> dict[str, Any]:
    carried = tuple(dict.fromkeys(name for source in recipe.sources for name in source.carry))
    prefetch([part.files.documents for part in store.parts])
    schema = _staging_schema(store, carried)
    tables = _tables(store, schema, carried, recipe, progress)
    with workbench(folder) as bench:
        keep = recipe.duplicates == "keep"
        record = sort_index(tables, folder / "index.parquet", bench, schema, carried, keep=keep)
    for number, name in enumerate(carried):
        if pa.types.is_null(schema.field(staged_name(number)).type):
            progress.say(f"bucket: no document has a value in {name!r}, which the recipe carries; is it misspelt?")
    return record | {"no_domain": store.documents - record.pop("staged")}


def _tables(
    store: Store, schema: pa.Schema, carried: Sequence[str], recipe: Recipe, progress: Progress
) -> Iterator[pa.Table]:
    """Yield the rows of each part, source by source."""
    for rank, source in enumerate(recipe.sources):
        for number, part in enumerate(store.parts):
            if part.unit.source.name == source.name:
                yield _part_rows(part, (rank, number), schema, carried, recipe)
                progress.advance(part.record["documents"])


def _staging_schema(store: Store, carried: Sequence[str]) -> pa.Schema:
    """Return the schema that all parts' rows fit: a carried column of several types becomes the widest, or text."""
    kinds: dict[str, set[pa.DataType]] = {name: set() for name in carried}
    for part in store.parts:
        if part.columns:
            schema = _columns_schema(part)
            for name in set(kinds) & set(schema.names):
                kinds[name].add(schema.field(name).type)
    fields = [f for f in schemas.INDEX if f.name not in ("occurrence", "occurrences")]
    extra = [pa.field(staged_name(number), widest(kinds[name])) for number, name in enumerate(carried)]
    return pa.schema([pa.field("rank", pa.int32()), *fields, *extra])


def _columns_schema(part: StoredPart) -> pa.Schema:
    path = part.files.columns(part.columns)
    try:
        return open_parquet(path).schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise StoreError(damaged(path, error)) from error


def _part_rows(
    part: StoredPart, numbers: tuple[int, int], schema: pa.Schema, carried: Sequence[str], recipe: Recipe
) -> pa.Table:
    documents = read_parquet(part.files.documents)
    lengths = schemas.numbers(documents["n_tokens"])
    source = part.unit.source
    columns = read_parquet(part.files.columns(part.columns)) if part.columns else None
    names = schemas.strings([file.name for file in part.unit.named])
    number = schemas.numbers(documents["input"])
    domain = _domains(source, columns, names, number)
    count = len(documents)
    first = np.array(part.first_rows, np.int64)
    made: dict[str, Any] = {
        "rank": schemas.column(np.full(count, numbers[0], np.int32)),
        "doc_id": documents["doc_id"],
        "source": schemas.repeated(source.name, count),
        "domain": domain,
        "n_tokens": documents["n_tokens"],
        "n_bytes": documents["n_bytes"],
        "part": schemas.column(np.full(count, numbers[1], np.int32)),
        "row": schemas.column(np.arange(count)),
        "token_offset": schemas.column(np.cumsum(lengths) - lengths),
        "input_file": names.take(schemas.column(number)),
        "input_row": schemas.column(schemas.numbers(documents["input_row"]) + first[number]),
    }
    for staged, name in enumerate(carried):
        here = columns if name in source.carry else None
        made[staged_name(staged)] = pa.nulls(count) if here is None else here[name]
    table = pa.table({name: made[name] for name in schema.names}).cast(schema)
    return _without_domainless(table, recipe, source)


def _domains(source: Source, columns: pa.Table | None, names: pa.Array, number: np.ndarray[Any, Any]) -> pa.Array:
    rule = source.domain
    if rule.field is not None and columns is not None:
        column = columns[rule.field].combine_chunks()
        return _mapped(column.cast(pa.string()), rule)
    if rule.path is not None:
        pattern = re.compile(rule.path)
        found = [pattern.search(name) for name in names.to_pylist()]
        for match, name in zip(found, names.to_pylist(), strict=True):
            if match is None or not match[1]:
                raise InputError(
                    f"source {source.name!r}: domain path {rule.path!r} does not match the file name {name!r}"
                )
        return _mapped(schemas.strings([match[1] if match else "" for match in found]), rule).take(
            schemas.column(number)
        )
    return schemas.repeated(rule.constant or "", len(number))


def _mapped(values: pa.Array, rule: DomainRule) -> pa.Array:
    """Rename values by the rule's map; those that it does not name stay."""
    if not rule.map:
        return values
    coded = values.dictionary_encode()
    renamed = schemas.strings([rule.map.get(value, value) for value in coded.dictionary.to_pylist()])
    return renamed.take(coded.indices)


def _without_domainless(table: pa.Table, recipe: Recipe, source: Source) -> pa.Table:
    named = pc.cast(pc.binary_length(table["domain"]), pa.bool_())
    lacking = pc.or_kleene(pc.is_null(table["domain"]), pc.invert(named))
    count = pc.sum(lacking).as_py() or 0
    if count and recipe.on_bad_row == "stop":
        order = [("input_file", "ascending"), ("input_row", "ascending")]
        row = table.filter(lacking).sort_by(order).slice(0, 1).to_pylist()[0]
        raise InputError(
            f"source {source.name!r}: {count:,} documents have no value in their domain field {source.domain.field!r}, "
            f"the first in {row['input_file']}, row {row['input_row']}; name another field or a constant domain, or "
            "leave them out with on_bad_row: skip"
        )
    return table.filter(pc.invert(lacking)) if count else table
