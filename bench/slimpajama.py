"""A document index with the shape of SlimPajama (627B tokens, seven domains), and what Fu et al. 2024 made of it.

The corpus cannot be shipped, its shape can: `SHAPE` says how each domain's tokens lie over document lengths. An index
of any size is drawn from it (`write_index`), or its expected supply is computed (`scaled_supply`).

Where the numbers come from. Figure 2 of Fu et al. (arXiv 2402.10171) gives seven mixtures by document length, read to
±.005; their code gives the domains' shares, the median documents, and how they cut. The shape is the solution of a
chain of linear programs over tokens per (domain, bin): the mixtures' rows are linearised in the shape, the largest
miss over all rows, and over the domain shares of `fu-global`, is made least, then the shape is smoothed (least total
bend of each domain's density over log length, one hump) while no miss exceeds .0094. Held throughout: domain shares
exactly, medians within 3 %, the row `original` within .005, tokens in documents of 8K and more within 10 % of the
counts in LongWanjuan (`LONG_TOKENS`). GitHub is the exception, 25 % above: held inside 10 %, the largest miss is .014.
A likely reason, not checked: theirs is a count of bytes or by another tokenizer, and code has few bytes to a token.

What the fit says about the figure, tested by fitting without it:

    length rule   documents of 3,840 tokens and more count as long, shorter ones are kept at .1. The authors compare
                  characters / 3.68 with 4,096, and most prose has more characters to a token. One number for all
                  domains; fitted anew at 4,096 the largest miss is .019, at 3,584 .014
    pieces        all rows but `original` show pieces after cutting into sequences of 131,072. It fits as if pieces that
                  fill a whole sequence were left out and the row were of the rest: `as_figure`. With them counted, in
                  the last column, no shape came nearer than .025; `fu-up-books` would show .42 there, figure: .305
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import math
import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mixture import schemas
from mixture.hashing import fingerprint, id_array
from mixture.index.build import Index
from mixture.index.census import Census, CensusRow
from mixture.storage import publish, write_json
from mixture.tokens.store import parquet_options

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Tokens of the whole corpus.
TOKENS = 627_000_000_000
#: Sequence length of the mixtures.
SEQUENCE = 131_072
#: The length rule that fits every row: tokens from which a document is long, and the rate at which others stay.
THRESHOLD = 3840
KEEP_SHORT = 0.1

#: Share of each domain's tokens in the whole, from the authors' code.
NATURAL = {
    "cc": 0.53374772,
    "c4": 0.26609933,
    "github": 0.05004782,
    "arxiv": 0.04290379,
    "books": 0.0414836,
    "wikipedia": 0.03402128,
    "stackexchange": 0.03169647,
}
DOMAINS = tuple(NATURAL)
#: Tokens of the median document of each domain, from the authors' code.
MEDIANS = {
    "cc": 1066,
    "c4": 315,
    "github": 520,
    "arxiv": 14565,
    "books": 121602,
    "wikipedia": 409,
    "stackexchange": 507,
}
#: Billions of tokens in documents of about 8K tokens and more, counted by LongWanjuan.
LONG_TOKENS = {
    "cc": 87.2,
    "c4": 8.2,
    "github": 8.7,
    "arxiv": 25.6,
    "books": 25.1,
    "wikipedia": 3.7,
    "stackexchange": 0.094,
}

#: Edges of the columns of Figure 2; what lies beyond the last is in no column.
FIGURE_EDGES = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
FIGURE_COLUMNS = ("0-1K", "1-2K", "2-4K", "4-8K", "8-16K", "16-32K", "32-64K", "64-128K", ">4K")
#: Token share by document length, as read from Figure 2 (±.005). `original` has about .047 beyond 128K besides.
FIGURE_2 = {
    "original": (0.255, 0.197, 0.158, 0.115, 0.097, 0.069, 0.035, 0.027, 0.390),
    "fu-cut-128k": (0.261, 0.201, 0.163, 0.120, 0.101, 0.072, 0.042, 0.038, 0.373),
    "fu-per-source": (0.095, 0.061, 0.076, 0.271, 0.225, 0.142, 0.073, 0.055, 0.766),
    "fu-global": (0.060, 0.047, 0.065, 0.249, 0.230, 0.165, 0.097, 0.086, 0.827),
    "fu-up-arxiv": (0.043, 0.029, 0.038, 0.160, 0.240, 0.268, 0.157, 0.066, 0.891),
    "fu-up-books": (0.056, 0.036, 0.046, 0.163, 0.140, 0.112, 0.142, 0.305, 0.862),
    "fu-up-github": (0.060, 0.043, 0.057, 0.249, 0.240, 0.167, 0.106, 0.078, 0.840),
}
BEYOND_128K = 0.047


def _by_domain(*shares: float) -> dict[str, float]:
    return dict(zip(("c4", "cc", "stackexchange", "wikipedia", "github", "arxiv", "books"), shares, strict=True))


#: Token share by domain, as read from the paper (±.005). The authors' budgets count characters, so they drift.
DOMAIN_SHARES = {
    "original": _by_domain(0.266, 0.533, 0.031, 0.034, 0.050, 0.042, 0.042),
    "fu-per-source": _by_domain(0.246, 0.521, 0.037, 0.040, 0.059, 0.052, 0.042),
    "fu-global": _by_domain(0.132, 0.585, 0.011, 0.022, 0.061, 0.095, 0.092),
    "fu-up-arxiv": _by_domain(0.111, 0.238, 0.017, 0.018, 0.026, 0.566, 0.019),
    "fu-up-books": _by_domain(0.124, 0.264, 0.018, 0.020, 0.030, 0.026, 0.514),
    "fu-up-github": _by_domain(0.115, 0.244, 0.017, 0.018, 0.558, 0.024, 0.019),
}
#: The domain that a preset raises; the others stay in proportion.
RAISED = {name: name.removeprefix("fu-up-") for name in FIGURE_2 if name.startswith("fu-up-")}

#: Edges of the bins of `SHAPE`, in tokens. Every power of two is one, so a bin lies in one row of the census.
# fmt: off
EDGES = (
    32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 2560, 3072, 3584, 3840, 4096, 6144, 8192, 12288, 16384,
    24576, 32768, 49152, 65536, 98304, 131072, 196608, 262144, 524288, 1048576,
)
#: Hundred-thousandths of the domain's tokens in each bin. Inside a bin lengths are log-uniform.
SHAPE = {
    "cc": (
        49, 194, 114, 81, 114, 2054, 5847, 6243, 11749, 9810, 6976, 5290, 4184, 1787, 1624, 9151, 6071, 7963,
        5228, 5676, 2826, 2291, 1352, 1519, 804, 747, 256, 0, 0,
    ),
    "c4": (
        24, 2256, 4456, 4566, 8415, 7375, 12373, 10183, 14392, 8924, 6186, 4264, 3051, 1201, 1032, 4444, 1452,
        2046, 1452, 1369, 491, 14, 10, 14, 10, 0, 0, 0, 0,
    ),
    "github": (
        291, 380, 264, 1530, 4048, 4214, 7831, 6899, 11616, 8253, 4400, 2296, 1030, 191, 27, 4446, 7629, 8249,
        4077, 4827, 3290, 4446, 3155, 4446, 2117, 28, 20, 0, 0,
    ),
    "arxiv": (
        11, 11, 6, 4, 14, 10, 14, 10, 114, 81, 62, 51, 43, 19, 18, 114, 1700, 9209, 11367, 22833, 13043, 13933,
        6728, 5032, 1893, 2667, 1893, 4560, 4560,
    ),
    "books": (
        0, 0, 0, 0, 6, 4, 6, 4, 6, 4, 31, 26, 22, 10, 9, 57, 40, 57, 40, 57, 40, 57, 2085, 11060, 13610, 27302,
        18852, 26605, 10,
    ),
    "wikipedia": (
        49, 194, 2992, 4031, 8371, 7848, 13747, 11664, 13149, 6994, 4090, 2476, 1486, 485, 353, 2215, 1572,
        2215, 1572, 2215, 1572, 2215, 1572, 2215, 1572, 2215, 921, 0, 0,
    ),
    "stackexchange": (
        10, 629, 1327, 2420, 5496, 5378, 9665, 8337, 13833, 9816, 7614, 6221, 5260, 2354, 2202, 13834, 5083,
        494, 4, 6, 4, 6, 4, 3, 0, 0, 0, 0, 0,
    ),
}
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


def _sum_of_lengths(low: int, high: int) -> float:
    """Return the sum over n in [low, high) of n · ln(1 + 1/n): tokens, not yet divided by ln of the bin's width."""
    return high * math.log(high) - low * math.log(low) - (math.lgamma(high + 1) - math.lgamma(low + 1))


@functools.cache
def _cells() -> tuple[Floats, Floats]:
    """Return tokens per cell, summing to 1, and mean length per bin; shapes (D, bins) and (bins,)."""
    table = np.array([SHAPE[name] for name in DOMAINS], np.float64)
    natural = np.array([NATURAL[name] for name in DOMAINS])
    tokens = table / table.sum(axis=1, keepdims=True) * (natural / natural.sum())[:, None]
    means = np.array([_sum_of_lengths(low, high) / math.log(high / low) for low, high in itertools.pairwise(EDGES)])
    return tokens, means


def scaled_supply(edges: Sequence[int], tokens: int = TOKENS) -> tuple[tuple[str, ...], Ints, Ints]:
    """Return what a corpus of the shape is expected to hold, without drawing a document.

    Args:
        edges: edges between the length buckets, ascending.
        tokens: tokens of the corpus, separators excluded.

    Returns:
        The D domains, sorted; documents and tokens per domain and bucket, shape (D, len(edges) + 1).
    """
    cell_tokens, means = _cells()
    documents = cell_tokens / means
    below = np.array([_below(edge) for edge in edges]).reshape(len(edges), 2, len(means))
    order = [DOMAINS.index(name) for name in sorted(DOMAINS)]
    tables = []
    for number, cells in enumerate((documents, cell_tokens)):
        reached = np.concatenate(
            [np.zeros((len(DOMAINS), 1)), cells @ below[:, number].T, cells.sum(1)[:, None]], axis=1
        )
        tables.append(np.rint(np.diff(reached, axis=1)[order] * tokens).astype(np.int64))
    return tuple(sorted(DOMAINS)), tables[0], tables[1]


def _below(edge: int) -> Floats:
    """Return the part of each bin's documents, and of its tokens, that is shorter than an edge; shape (2, bins)."""
    out = np.zeros((2, len(EDGES) - 1))
    for number, (low, high) in enumerate(itertools.pairwise(EDGES)):
        inside = min(max(edge, low), high)
        out[:, number] = (
            math.log(inside / low) / math.log(high / low),
            _sum_of_lengths(low, inside) / _sum_of_lengths(low, high),
        )
    return out


def cut_shares(lengths: npt.ArrayLike, weights: npt.ArrayLike, sequence: int, edges: Sequence[int]) -> Floats:
    """Return the expected token share of each bucket of piece lengths, after concatenating and cutting.

    A document of n tokens starts anywhere in a sequence of S, each place alike. For j below both n and S, the cut that
    leaves a first piece of j falls on one place of S, and so does the cut that leaves a last piece of j; so pieces of
    exactly j hold 2j/S tokens of it, and pieces shorter than L hold L(L-1)/S for L up to min(n, S). All that is left
    is in pieces of min(n, S): the document uncut, or whole sequences.

    Args:
        lengths: tokens of documents as written, separators included, shape (n,).
        weights: how many there are of each, shape (n,); only their proportions matter.
        sequence: tokens of a sequence.
        edges: edges between the K buckets, ascending; a whole sequence lies at `sequence`, so an edge there sets
            pieces that fill one apart.

    Returns:
        Shares that sum to 1, shape (len(edges) + 1,).
    """
    length, weight = np.asarray(lengths, np.float64), np.asarray(weights, np.float64)
    total = float(weight @ length)
    reached = [0.0]
    for edge in edges:
        if edge > sequence:
            reached.append(total)
            continue
        short = length < edge
        reached.append(float(weight[short] @ length[short] + weight[~short].sum() * edge * (edge - 1) / sequence))
    return np.diff([*reached, total]) / total


def as_figure(shares: npt.ArrayLike, *, cut: bool = True) -> Floats:
    """Return shares by `FIGURE_EDGES` as Figure 2 counts them, shape (9,), the last for all from 4K.

    Args:
        shares: of the nine buckets, the last from 128K on.
        cut: whether they are of pieces: then those that fill a sequence are left out and the rest is the whole.
    """
    bucket = np.asarray(shares, np.float64)
    bucket = bucket[:-1] / bucket[:-1].sum() if cut else bucket
    return np.append(bucket[:8], bucket[3:].sum())


def mixture_domains(preset: str) -> dict[str, float] | None:
    """Return the domain shares that a preset fixes, summing to 1; None where it fixes none (`fu-global`)."""
    if preset == "fu-global":
        return None
    total = sum(NATURAL.values())
    natural = {name: share / total for name, share in NATURAL.items()}
    if preset not in RAISED:
        return natural
    raised = RAISED[preset]
    share = DOMAIN_SHARES[preset][raised]
    rest = (1 - share) / (1 - natural[raised])
    return {name: share if name == raised else rest * value for name, value in natural.items()}


def mixture_cells(preset: str, threshold: int = THRESHOLD, keep_short: float = KEEP_SHORT) -> Floats:
    """Return the token share of each domain and bin of `EDGES` that a preset draws, shape (D, bins), summing to 1.

    Args:
        preset: a key of `FIGURE_2`.
        threshold: tokens from which a document is long; an edge of `EDGES`.
        keep_short: rate at which shorter ones are kept, in presets that have a length rule.
    """
    tokens, _ = _cells()
    if preset not in ("original", "fu-cut-128k"):
        tokens = tokens * np.where(np.array(EDGES[:-1]) >= threshold, 1.0, keep_short)
    fixed = mixture_domains(preset)
    if fixed is not None:
        tokens = tokens / tokens.sum(axis=1, keepdims=True) * np.array([fixed[name] for name in DOMAINS])[:, None]
    shares: Floats = tokens / tokens.sum()
    return shares


def mixture_row(preset: str, threshold: int = THRESHOLD, keep_short: float = KEEP_SHORT) -> Floats:
    """Return the row of Figure 2 that the shape gives for a preset, shape (9,): see `mixture_cells`, `as_figure`.

    Bins' means stand for their documents: no bin straddles a column's edge, so nothing is lost.
    """
    tokens = mixture_cells(preset, threshold, keep_short).sum(axis=0)
    _, means = _cells()
    if preset == "original":
        column = np.searchsorted(FIGURE_EDGES, EDGES[:-1], "right")
        return as_figure(np.bincount(column, tokens, len(FIGURE_EDGES) + 1), cut=False)
    # One token more: the separator.
    return as_figure(cut_shares(means + 1, tokens / means, SEQUENCE, FIGURE_EDGES))


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
            yield _draw(documents, seed, group, groups)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        ahead: deque[concurrent.futures.Future[dict[str, Any]]] = deque()
        for group in range(groups):
            ahead.append(pool.submit(_draw, documents, seed, group, groups))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _draw(documents: int, seed: int, group: int, groups: int) -> dict[str, Any]:
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
    tokens, means = _cells()
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
    tokens, means = _cells()
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
