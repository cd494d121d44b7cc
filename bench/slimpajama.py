"""A document index with the shape of SlimPajama, of any size: `make_index`, or its expected supply: `scaled_supply`.

    slimpajama_shape.py    the numbers of the shape, where they come from, and the supply that they give
    slimpajama_figure.py   what Fu et al. 2024 made of the corpus, computed from the shape
    here                   documents of the shape, drawn and written as the bucket stage writes an index

How the shape was found stands in the first; all of it can be had from here.
"""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bench.slimpajama_figure import (
    BEYOND_128K,
    DOMAIN_SHARES,
    FIGURE_2,
    FIGURE_COLUMNS,
    FIGURE_EDGES,
    RAISED,
    as_figure,
    cut_shares,
    mixture_cells,
    mixture_domains,
    mixture_row,
)
from bench.slimpajama_shape import (
    DOMAINS,
    EDGES,
    KEEP_SHORT,
    LONG_TOKENS,
    MEDIANS,
    NATURAL,
    SEQUENCE,
    SHAPE,
    THRESHOLD,
    TOKENS,
    Floats,
    Ints,
    cells,
    scaled_supply,
)
from bench.slimpajama_shape import below as _below
from mixture import schemas
from mixture.hashing import fingerprint, id_array
from mixture.index.build import Index
from mixture.index.census import Census, CensusRow
from mixture.storage import publish, write_json
from mixture.tokens.store import parquet_options

# fmt: off
__all__ = [
    "BEYOND_128K", "DOMAINS", "DOMAIN_SHARES", "EDGES", "FIGURE_2", "FIGURE_COLUMNS", "FIGURE_EDGES", "KEEP_SHORT",
    "LONG_TOKENS", "MEDIANS", "NATURAL", "RAISED", "SEQUENCE", "SHAPE", "THRESHOLD", "TOKENS", "_below",
    "as_figure", "cut_shares", "make_index", "mixture_cells", "mixture_domains", "mixture_row", "scaled_supply",
    "write_index",
]
# fmt: on

#: Tenths of a byte of text to a token.
_BYTES = {"cc": 39, "c4": 40, "github": 29, "arxiv": 30, "books": 39, "wikipedia": 36, "stackexchange": 31}
#: About 64 MB of text.
DOCUMENTS_PER_PART = 16_000
PARTS_PER_FILE = 64
_GROUP_ROWS = 1 << 17
_ALIASES = 256
#: Strings' least and greatest cost a third of the writing time, and nobody asks for them.
_STATISTICS = ("doc_id", "n_tokens", "n_bytes", "occurrence", "occurrences")


def make_index(folder: Path, documents: int, seed: int = 0, workers: int = 1) -> Index:
    """Write an index into a folder and return it as the bucket stage would; see `write_index`."""
    folder.mkdir(parents=True, exist_ok=True)
    record = write_index(folder / "index.parquet", documents, seed, workers)
    census = Census(tuple(CensusRow(**row) for row in record.pop("census")))
    write_json(folder / "index.json", record)
    return Index(folder=folder, census=census, made=True, **record)


def write_index(path: Path, documents: int, seed: int = 0, workers: int = 1) -> dict[str, Any]:
    """Draw documents of the shape and write them as an index, sorted by id; beside it, `census.json`.

    The ids of row group g of G lead with words of [g/G, (g+1)/G), so nothing is sorted across groups. Parts are dealt:
    of every stretch of P documents each of the P parts gets one, in random order, so `row` is a document's true rank
    in its part. String columns carry no statistics; else the file is written as the bucket stage writes it.

    Args:
        path: the Parquet file.
        documents: rows.
        seed: of every draw.
        workers: processes that draw; the bytes do not depend on it.

    Returns:
        The index's record (documents, tokens, duplicates, no_domain, digest) and the rows of its census.

    Raises:
        ValueError: no documents are asked for.
    """
    if documents < 1:
        raise ValueError(f"an index of {documents} documents")
    names = schemas.INDEX.names
    text = _texts(documents)
    codes = {"source": pa.int8(), "domain": pa.int8(), "input_file": pa.int32()}
    schema = pa.schema(
        [(f.name, pa.dictionary(codes[f.name], pa.string()) if f.name in codes else f.type) for f in schemas.INDEX]
    )
    count = np.zeros(_ALIASES, np.int64)
    tokens = np.zeros(_ALIASES, np.int64)
    with (
        publish(path) as out,
        # Without the Arrow schema in the file, dictionaries are read back as the strings that they stand for.
        pq.ParquetWriter(
            pa.PythonFile(out, "w"),
            schema,
            store_schema=False,
            write_statistics=list(_STATISTICS),
            **parquet_options(names),
        ) as writer,
    ):
        for drawn in _drawn(documents, seed, workers):
            writer.write_table(_table(drawn, documents, schema, text), row_group_size=2 * _GROUP_ROWS)
            count += drawn["count"]
            tokens += drawn["tokens"]
    census = _census_rows(count, tokens)
    write_json(path.with_name("census.json"), census)
    what = {"version": 1, "seed": seed, "documents": documents, "edges": EDGES, "shape": SHAPE}
    return {
        "documents": documents,
        "tokens": int(tokens.sum()),
        "duplicates": 0,
        "no_domain": 0,
        "digest": fingerprint(what),
        "census": census,
    }


def _census_rows(count: Ints, tokens: Ints) -> list[dict[str, Any]]:
    """Return the rows of the census from sums per cell: a bin lies in one power of two."""
    rows: dict[tuple[str, int], list[int]] = {}
    for cell in np.flatnonzero(count):
        domain, place = divmod(int(cell), len(EDGES) - 1)
        row = rows.setdefault((DOMAINS[domain], EDGES[place].bit_length() - 1), [0, 0])
        row[0] += int(count[cell])
        row[1] += int(tokens[cell])
    return [
        {"domain": domain, "log2": log2, "documents": row[0], "tokens": row[1]}
        for (domain, log2), row in sorted(rows.items())
    ]


def _parts(documents: int) -> int:
    return max(1, documents // DOCUMENTS_PER_PART)


def _texts(documents: int) -> dict[str, pa.StringArray]:
    """Return the strings of each column that holds some."""
    parts = _parts(documents)
    files = -(-parts // PARTS_PER_FILE)
    domains = schemas.strings(DOMAINS)
    inputs = [f"train/{file:04x}.jsonl.zst" for file in range(files)]
    return {
        "source": domains,
        "domain": domains,
        "input_file": schemas.strings(inputs),
    }


def _drawn(documents: int, seed: int, workers: int) -> Iterator[dict[str, Any]]:
    """Yield the row groups in order, drawn here or in other processes, a few ahead of the writer."""
    groups = max(1, documents // _GROUP_ROWS)
    if workers <= 1:
        for group in range(groups):
            yield draw(documents, seed, group, groups)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        ahead: deque[concurrent.futures.Future[dict[str, Any]]] = deque()
        for group in range(groups):
            ahead.append(pool.submit(draw, documents, seed, group, groups))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def draw(documents: int, seed: int, group: int, groups: int) -> dict[str, Any]:
    """Draw one row group, as few bytes as will do: it may cross to another process."""
    first, stop = documents * group // groups, documents * (group + 1) // groups
    rows = stop - first
    rng = np.random.Generator(np.random.PCG64([seed, 0, group]))
    cell = _draw_cells(rng, rows)
    low, span = _bins()
    # Rounding down keeps the bin: a · (b/a)^u is below b, and the product of floats at most b itself.
    length = (low[cell] * np.exp(rng.random(rows) * span[cell])).astype(np.int64)
    length = np.minimum(length, _last()[cell])
    # Sums of fewer than 2^53 tokens are exact in floats.
    return {
        "ids": _draw_ids(rng, rows, (group << 64) // groups, ((group + 1) << 64) // groups),
        "first": first,
        "cell": cell,
        "length": length.astype(np.int32),
        "part": _deal(seed, first, stop, _parts(documents)),
        "input_row": rng.integers(0, DOCUMENTS_PER_PART, rows, np.int32),
        "count": np.bincount(cell, minlength=_ALIASES),
        "tokens": np.bincount(cell, length, _ALIASES).astype(np.int64),
    }


def _draw_ids(rng: np.random.Generator, rows: int, low: int, high: int) -> bytes:
    """Draw ids whose leading words lie in [low, high), sorted."""
    lead = np.sort(rng.integers(low, high - 1, rows, np.uint64, endpoint=True))
    tail = rng.integers(0, (1 << 64) - 1, rows, np.uint64, endpoint=True)
    if (lead[1:] == lead[:-1]).any():
        tail = tail[np.lexsort((tail, lead))]
    return bytes(id_array(lead, tail).buffers()[1])


def _draw_cells(rng: np.random.Generator, rows: int) -> npt.NDArray[np.uint8]:
    """Draw a cell (domain · bins + bin) for each document, by Walker's aliases: one word of 64 bits each."""
    keep, alias = _aliases()
    word = rng.integers(0, (1 << 64) - 1, rows, np.uint64, endpoint=True)
    place = word.astype(np.uint8)
    return np.where((word >> np.uint64(11)) * 2.0**-53 < keep[place], place, alias[place])


@functools.cache
def _aliases() -> tuple[Floats, npt.NDArray[np.uint8]]:
    tokens, means = cells()
    weight = np.zeros(_ALIASES)
    weight[: tokens.size] = (tokens / means).ravel()
    left = weight / weight.sum() * _ALIASES
    keep, alias = np.ones(_ALIASES), np.arange(_ALIASES, dtype=np.uint8)
    small, large = [i for i in range(_ALIASES) if left[i] < 1], [i for i in range(_ALIASES) if left[i] >= 1]
    while small and large:
        poor, rich = small.pop(), large[-1]
        keep[poor], alias[poor] = left[poor], rich
        left[rich] -= 1 - left[poor]
        if left[rich] < 1:
            small.append(large.pop())
    # By rounding alone an empty cell may be left over: it hands all to a cell that is not empty.
    for cell in small:
        if weight[cell] == 0:
            keep[cell], alias[cell] = 0.0, int(weight.argmax())
    return keep, alias


@functools.cache
def _bins() -> tuple[Floats, Floats]:
    """Return the lower edge of each cell, and the log of its upper edge over it."""
    edges = np.array(EDGES, np.float64)
    low, span = edges[:-1], np.log(edges[1:] / edges[:-1])
    return np.tile(low, len(DOMAINS)), np.tile(span, len(DOMAINS))


@functools.cache
def _last() -> Ints:
    return np.tile(np.array(EDGES[1:]) - 1, len(DOMAINS))


def _deal(seed: int, first: int, stop: int, parts: int) -> npt.NDArray[np.int32]:
    """Deal documents [first, stop) to the parts: every stretch of `parts` of them in its own random order."""
    start, end = first // parts, -(-stop // parts)
    orders = [
        np.random.Generator(np.random.PCG64([seed, 1, stretch])).permutation(parts) for stretch in range(start, end)
    ]
    return np.concatenate(orders)[first - start * parts : stop - start * parts].astype(np.int32)


def _table(drawn: dict[str, Any], documents: int, schema: pa.Schema, text: dict[str, pa.StringArray]) -> pa.Table:
    """Make the rows of one row group."""
    length = drawn["length"].astype(np.int64)
    rows = len(length)
    domain = (drawn["cell"] // (len(EDGES) - 1)).astype(np.int8)
    tenths = np.array([_BYTES[name] for name in DOMAINS])
    row = np.arange(drawn["first"], drawn["first"] + rows) // _parts(documents)
    tokens, means = cells()
    codes = {
        "source": domain,
        "domain": domain,
        "input_file": drawn["part"] // PARTS_PER_FILE,
    }
    made = {
        "doc_id": pa.FixedSizeBinaryArray.from_buffers(schemas.DOC_ID, rows, [None, pa.py_buffer(drawn["ids"])]),
        "n_tokens": schemas.column(length),
        "n_bytes": schemas.column(length * tenths[domain] // 10),
        "part": schemas.column(drawn["part"]),
        "row": schemas.column(row),
        # About where a document of that rank begins.
        "token_offset": schemas.column(row * int(1 / (tokens / means).sum())),
        "input_row": schemas.column(drawn["input_row"].astype(np.int64)),
        "occurrence": schemas.column(np.zeros(rows, np.int32)),
        "occurrences": schemas.column(np.ones(rows, np.int32)),
        **{name: pa.DictionaryArray.from_arrays(schemas.column(code), text[name]) for name, code in codes.items()},
    }
    return pa.table([made[name] for name in schema.names], schema=schema)
