"""The shape of SlimPajama, the index drawn from it, and the figure that it must give back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from bench import slimpajama
from bench.slimpajama import (
    BEYOND_128K,
    DOMAIN_SHARES,
    DOMAINS,
    EDGES,
    FIGURE_2,
    FIGURE_EDGES,
    LONG_TOKENS,
    MEDIANS,
    NATURAL,
    RAISED,
    SHAPE,
    TOKENS,
    as_figure,
    cut_shares,
    make_index,
    mixture_cells,
    mixture_domains,
    mixture_row,
    scaled_supply,
    write_index,
)
from mixture import schemas
from mixture.hashing import id_words
from mixture.index.build import Index
from mixture.index.census import take_census

DOCUMENTS = 300_000


def _long(domain: str, length: int = 8192) -> float:
    """Billions of tokens of the whole corpus in documents of a length and more."""
    names, _, tokens = scaled_supply([length])
    return float(tokens[names.index(domain), 1]) / 1e9


def test_shares_of_the_domains_are_the_paper_s() -> None:
    names, documents, tokens = scaled_supply([4096])
    assert names == tuple(sorted(NATURAL))
    assert tokens.sum() == pytest.approx(TOKENS, abs=14)
    assert tokens.sum(axis=1) / TOKENS == pytest.approx([NATURAL[name] for name in names], abs=1e-8)
    assert 500e6 < documents.sum() < 600e6
    assert {sum(row) for row in SHAPE.values()} == {100_000}
    assert {len(row) for row in SHAPE.values()} == {len(EDGES) - 1}


@pytest.mark.parametrize("domain", DOMAINS)
def test_half_the_documents_are_shorter_than_the_median(domain: str) -> None:
    median = MEDIANS[domain]
    names, documents, _ = scaled_supply([round(0.97 * median), round(1.03 * median)])
    low, between, high = documents[names.index(domain)]
    assert low < between + high
    assert high < low + between


@pytest.mark.parametrize("domain", DOMAINS)
def test_long_documents_hold_what_was_counted(domain: str) -> None:
    # GitHub is above: see the module.
    most = 1.26 if domain == "github" else 1.11
    assert 0.9 < _long(domain) / LONG_TOKENS[domain] < most


def test_only_c4_and_stackexchange_are_short_at_150b() -> None:
    short = [name for name in DOMAINS if _long(name) < 0.7 * 150 * NATURAL[name]]
    assert short == ["c4", "stackexchange"]
    assert 0.7 * 150 * NATURAL["wikipedia"] == pytest.approx(3.57, abs=0.01)


def test_the_original_row_is_the_figure_s() -> None:
    assert mixture_row("original") == pytest.approx(FIGURE_2["original"], abs=0.005)
    _, _, tokens = scaled_supply(FIGURE_EDGES)
    assert as_figure(tokens.sum(axis=0) / TOKENS, cut=False) == pytest.approx(mixture_row("original"), abs=1e-9)
    assert tokens[:, -1].sum() / TOKENS == pytest.approx(BEYOND_128K, abs=0.005)


@pytest.mark.parametrize("preset", [name for name in FIGURE_2 if name != "original"])
def test_every_mixture_lands_on_its_row(preset: str) -> None:
    assert mixture_row(preset) == pytest.approx(FIGURE_2[preset], abs=0.01)


def test_a_threshold_of_4096_tokens_does_not_land() -> None:
    missed = np.abs(mixture_row("fu-per-source", threshold=4096) - FIGURE_2["fu-per-source"])
    assert missed.max() > 0.02


@pytest.mark.parametrize("preset", [name for name in FIGURE_2 if name != "fu-global"])
def test_presets_fix_the_domains(preset: str) -> None:
    fixed = mixture_domains(preset)
    assert fixed is not None
    assert sum(fixed.values()) == pytest.approx(1)
    drawn = dict(zip(DOMAINS, mixture_cells(preset).sum(axis=1), strict=True))
    assert drawn == pytest.approx(fixed)
    if preset in RAISED:
        assert drawn == pytest.approx(DOMAIN_SHARES[preset], abs=0.015)
    else:
        assert drawn == pytest.approx(NATURAL, abs=1e-7)


def test_the_global_mixture_moves_the_domains_as_the_paper_s_did() -> None:
    assert mixture_domains("fu-global") is None
    drawn = dict(zip(DOMAINS, mixture_cells("fu-global").sum(axis=1), strict=True))
    assert drawn == pytest.approx(DOMAIN_SHARES["fu-global"], abs=0.01)


def test_cutting_by_hand() -> None:
    # Three tokens in sequences of four, from each of the four places: 3 | 3 | 2 1 | 1 2.
    assert cut_shares([3], [1], 4, [2, 3]).tolist() == pytest.approx([2 / 12, 4 / 12, 6 / 12])
    # Six: 4 2 | 3 3 | 2 4 | 1 4 1; an edge at the sequence sets the full ones apart.
    assert cut_shares([6], [1], 4, [2, 3, 4, 9]).tolist() == pytest.approx([2 / 24, 4 / 24, 6 / 24, 12 / 24, 0])


@pytest.mark.parametrize("sequence", [1, 7, 16])
@pytest.mark.parametrize("tokens", [1, 6, 7, 8, 16, 39])
def test_cutting_from_every_place(tokens: int, sequence: int) -> None:
    edges = list(range(2, 20))
    held = np.zeros(len(edges) + 1)
    for start in range(sequence):
        for piece in _pieces(np.array([start, start + tokens]), sequence):
            held[np.searchsorted(edges, piece, "right")] += piece
    assert cut_shares([tokens], [3.0], sequence, edges) == pytest.approx(held / held.sum())


def test_cutting_a_shuffled_stream() -> None:
    rng = np.random.default_rng(5)
    kinds, sequence, edges = np.array([3, 17, 64, 250, 1000]), 256, [16, 64, 128, 256]
    # Of so many the shares scatter by .0005.
    lengths = rng.choice(kinds, 600_000, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    pieces = _pieces(np.concatenate([[0], np.cumsum(lengths)]), sequence)
    held = np.bincount(np.searchsorted(edges, pieces, "right"), pieces)
    count = np.array([(lengths == kind).sum() for kind in kinds])
    assert cut_shares(kinds, count, sequence, edges) == pytest.approx(held / held.sum(), abs=0.003)


def _pieces(borders: npt.NDArray[np.int64], sequence: int) -> npt.NDArray[np.int64]:
    """Lengths between the borders of documents and those of sequences."""
    cuts = np.arange(-(-int(borders[0]) // sequence), int(borders[-1]) // sequence + 1) * sequence
    return np.diff(np.unique(np.concatenate([borders, cuts])))


def test_pieces_that_fill_a_sequence_are_in_no_column() -> None:
    shares = as_figure([0.1] * 8 + [0.2])
    assert shares.tolist() == pytest.approx([0.125] * 8 + [0.625])
    assert as_figure([0.1] * 8 + [0.2], cut=False).tolist() == pytest.approx([0.1] * 8 + [0.7])


@pytest.mark.parametrize("edge", [40, 1000, 3840, 8192, 100_000])
def test_supply_at_any_edge_adds_up(edge: int) -> None:
    _, documents, tokens = scaled_supply([edge])
    _, all_documents, all_tokens = scaled_supply([])
    assert np.abs(documents.sum(axis=1) - all_documents[:, 0]).max() <= 1
    assert np.abs(tokens.sum(axis=1) - all_tokens[:, 0]).max() <= 1
    assert (tokens[:, 0] <= documents[:, 0] * (edge - 1) + edge).all()
    assert (tokens[:, 1] >= documents[:, 1] * edge - edge).all()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return make_index(tmp_path_factory.mktemp("index"), DOCUMENTS, seed=3)


def test_the_index_is_an_index(index: Index) -> None:
    table = pq.read_table(index.table)
    assert table.schema.equals(schemas.INDEX)
    assert len(table) == index.documents == DOCUMENTS
    assert sum(table["n_tokens"].to_pylist()) == index.tokens
    assert all(column.null_count == 0 for column in table.columns)
    facts = pq.read_metadata(index.table)
    groups = [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]
    assert sum(groups) == DOCUMENTS
    assert all(1 << 17 <= rows < 1 << 18 for rows in groups)
    lead, tail = id_words(table["doc_id"])
    assert (np.lexsort((tail, lead)) == np.arange(DOCUMENTS)).all()
    assert np.abs(np.histogram(lead / 2.0**64, 10, (0, 1))[0] - DOCUMENTS / 10).max() < 1000
    assert index.census == take_census(index.table)


def test_every_part_lists_its_documents_by_rank(index: Index) -> None:
    table = pq.read_table(index.table, columns=["part", "row", "input_file"])
    part, row = schemas.numbers(table["part"]), schemas.numbers(table["row"])
    assert set(part.tolist()) == set(range(DOCUMENTS // 16_000))
    for number in range(DOCUMENTS // 16_000):
        ranks = row[part == number]
        assert (ranks == np.arange(len(ranks))).all()


def test_the_index_has_the_shape(index: Index) -> None:
    table = pq.read_table(index.table, columns=["domain", "n_tokens", "n_bytes"])
    domains = table["domain"].combine_chunks().dictionary_encode()
    code, length = schemas.numbers(domains.indices), schemas.numbers(table["n_tokens"])
    assert length.min() >= EDGES[0]
    assert length.max() < EDGES[-1]
    assert 3.6 < schemas.numbers(table["n_bytes"]).sum() / length.sum() < 4.0
    names, documents, tokens = scaled_supply(FIGURE_EDGES[:-1], index.tokens)
    for number, name in enumerate(domains.dictionary.to_pylist()):
        mine, place = length[code == number], names.index(name)
        bucket = np.searchsorted(FIGURE_EDGES[:-1], mine, "right")
        count, held = np.bincount(bucket, minlength=8), np.bincount(bucket, mine, 8)
        sampling = 5 * np.sqrt(documents[place] + 1) + 5
        assert (np.abs(count - documents[place]) < sampling + 0.01 * documents[place]).all()
        # A document of a bucket is at most twice as long as another of it, but for the last.
        long = np.array([*FIGURE_EDGES[:-1], 4 * FIGURE_EDGES[-1]])
        assert (np.abs(held - tokens[place]) < sampling * long + 0.02 * tokens[place]).all()
        if len(mine) > 10_000:
            assert np.median(mine) == pytest.approx(MEDIANS[name], rel=0.06)
    assert np.bincount(code, length) / length.sum() == pytest.approx(
        [NATURAL[name] for name in domains.dictionary.to_pylist()], abs=0.012
    )


def test_inside_a_bin_lengths_are_as_the_supply_says() -> None:
    """A middle edge of a wide bin: documents by their logarithms, tokens nearly by lengths."""
    fractions = slimpajama._below(3 * 1024)
    assert fractions[:, EDGES.index(3072)].tolist() == [0, 0]
    documents, tokens = slimpajama._below(5 * 1024)[:, EDGES.index(4096)]
    assert documents == pytest.approx(np.log(5 / 4) / np.log(6 / 4))
    assert tokens == pytest.approx(0.5, abs=1e-4)


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, index: Index) -> None:
    record = write_index(tmp_path / "index.parquet", DOCUMENTS, seed=3, workers=2)
    assert (tmp_path / "index.parquet").read_bytes() == index.table.read_bytes()
    assert (tmp_path / "census.json").read_bytes() == (index.folder / "census.json").read_bytes()
    assert record["digest"] == index.digest


def test_another_seed_draws_another_corpus(tmp_path: Path, index: Index) -> None:
    other = make_index(tmp_path, 5_000, seed=4)
    assert other.digest != index.digest
    assert pq.read_metadata(other.table).num_row_groups == 1
    assert pq.read_table(other.table)["part"].to_pylist() == [0] * 5_000
    with pytest.raises(ValueError, match="0 documents"):
        make_index(tmp_path, 0)
