"""Hold-out loss: every token in its cell, and each cell the mean of what full logits say."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from mixture import lockfile  # noqa: E402
from mixture.errors import MonitorError  # noqa: E402
from mixture.loader.stream import Stream  # noqa: E402
from mixture.monitor.holdout import Piece, holdout, pieces_of, sample, tally  # noqa: E402
from mixture.monitor.measures import Measure  # noqa: E402
from mixture.monitor.unseen import HeldOut, held_out  # noqa: E402
from mixture.trace import Trace  # noqa: E402
from mixture.workspace import Workspace  # noqa: E402
from tests.monitor.conftest import Gym, tiny  # noqa: E402
from tests.monitor.test_probability import naive, text  # noqa: E402

LENGTHS, POSITIONS = (16, 64), (8, 32)


def document(size: int, domain: str, number: int) -> HeldOut:
    return HeldOut(number.to_bytes(16, "big"), domain, text(size, seed=number))


DOCUMENTS = [document(*facts) for facts in ((10, "a", 1), (40, "a", 2), (90, "b", 3), (12, "b", 4), (50, "a", 5))]


def pieces(**how: Any) -> list[Piece]:
    return sample(DOCUMENTS, **({"window": 60, "lengths": LENGTHS} | how))


def test_a_sample_takes_the_first_of_each_cell_and_cuts_at_the_window() -> None:
    found = pieces(each=1)
    assert [(p.document, p.domain, p.length, p.offset, len(p.tokens)) for p in found] == [
        (0, "a", 10, 0, 10),
        (1, "a", 40, 0, 40),
        (2, "b", 90, 0, 60),
        (3, "b", 12, 0, 12),
    ]
    assert [p.document for p in pieces()] == [0, 1, 2, 3, 4]
    assert [p.document for p in pieces(look=2)] == [0, 1]
    opened = pieces(opening=(256,))
    assert [(p.offset, int(p.tokens[0]), len(p.tokens)) for p in opened][:3] == [
        (-1, 256, 11),
        (-1, 256, 41),
        (-1, 256, 60),
    ]


def by_hand(subject: Any, found: list[Piece], skip: int) -> dict[tuple[str, str, str], tuple[float, int]]:
    """Score token by token; return sum and count by domain, length and position."""
    out: dict[tuple[str, str, str], tuple[float, int]] = {}
    for piece in found:
        length = ["<16", "16-64", "≥64"][sum(piece.length >= edge for edge in LENGTHS)]
        for number, loss in enumerate(naive(subject, piece.tokens)):
            at = number + 1 - skip
            position = ["<8", "8-32", "≥32"][sum(at >= edge for edge in POSITIONS)]
            loss_, count = out.get((piece.domain, length, position), (0.0, 0))
            out[piece.domain, length, position] = (loss_ + loss, count + 1)
    return out


@pytest.mark.parametrize("opening", [(), (256,)])
def test_every_cell_is_the_mean_over_its_tokens(opening: tuple[int, ...]) -> None:
    subject = tiny()
    chosen = pieces(opening=opening)
    found = holdout(subject, chosen, lengths=LENGTHS, positions=POSITIONS, places=120)
    cells = by_hand(subject, chosen, len(opening))
    rows = {(m.domain, m.cell): m for m in found if m.metric == "loss"}
    wanted: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for (domain, length, position), value in cells.items():
        both = f"length {length}, position {position}"
        for name in (domain, ""):
            for cell in (both, f"length {length}", f"position {position}", ""):
                wanted.setdefault((name, cell), []).append(value)
    assert rows.keys() == wanted.keys()
    for key, parts in wanted.items():
        total, count = (sum(column) for column in zip(*parts, strict=True))
        assert rows[key].value == pytest.approx(total / count, rel=1e-4), key
        assert rows[key].low <= rows[key].value <= rows[key].high
    tokens = sum(count for _, count in cells.values())
    assert tokens == sum(len(piece.tokens) - 1 for piece in chosen)


def test_perplexity_is_exp_of_the_loss_of_a_domain_and_of_all() -> None:
    found = holdout(tiny(), pieces(), lengths=LENGTHS, positions=POSITIONS)
    whole: dict[tuple[str, str], Measure] = {(m.domain, m.metric): m for m in found if m.whole}
    assert set(whole) == {(domain, metric) for domain in ("", "a", "b") for metric in ("loss", "perplexity")}
    for domain in ("", "a", "b"):
        assert whole[domain, "perplexity"].value == pytest.approx(np.exp(whole[domain, "loss"].value))
    assert [whole[domain, "loss"].n for domain in ("", "a", "b")] == [5, 3, 2], "documents"


def test_pieces_of_one_document_are_one_in_the_bootstrap() -> None:
    parts = [Piece(7, "a", 40, 0, text(20)), Piece(7, "a", 40, 20, text(20, seed=1)), Piece(8, "a", 9, 0, text(9))]
    found = tally(tiny(), parts, lengths=LENGTHS, positions=POSITIONS)
    # Tokens 1 … 19 and 21 … 39 of the one, 1 … 8 of the other.
    assert found.counts.tolist() == [[7, 12 + 11, 8], [7, 1, 0]]
    assert found.lengths.tolist() == [1, 0]


def test_what_a_recipe_held_out_is_scored_by_its_domains(gym: Gym) -> None:
    shop = gym.shop
    recipe = (shop.root / "small.yaml").read_text().replace("name: small", "name: held")
    (shop.root / "held.yaml").write_text(recipe.replace("holdout: 0.02", "holdout: 0.2"))
    said = shop.run(recipe="held.yaml")
    assert said.code == 0, said.err
    lock = lockfile.read(shop.root / "held.lock.json")
    assert lock is not None
    trace = Trace(lock, Workspace(shop.root / "work", shop.root))
    documents = list(held_out(trace))
    assert documents
    chosen = sample(documents, window=512, lengths=(128, 512), each=3)
    found = holdout(tiny(), chosen, lengths=(128, 512), positions=(64, 256))
    assert {m.domain for m in found} == {"", "code", "docs"}
    assert all(m.n >= 1 and np.isfinite(m.value) for m in found)


def test_pieces_of_a_packed_stream_are_its_spans(gym: Gym) -> None:
    stream = Stream.open(gym.shop.root / "small.lock.json", work=gym.shop.root / "work")
    found = list(pieces_of(stream, 0, 3))
    rows = stream.rows(np.arange(3))
    assert len(found) == len(rows.spans.start)
    assert np.concatenate([p.tokens for p in found]).tolist() == rows.tokens[rows.tokens >= 0].reshape(-1).tolist()
    assert [p.offset for p in found] == rows.spans.doc_offset.tolist()
    assert [p.length for p in found] == rows.spans.doc_length.tolist()
    assert {p.domain for p in found} <= {"code", "docs"}
    # What goes on in the next sequence is another piece of the same document.
    on = [at for at in range(1, len(found)) if found[at].offset > 0]
    assert on
    for at, (before, piece) in enumerate(pairwise(found), 1):
        assert (piece.document == before.document) == (at in on)
    scored = holdout(tiny(), found, lengths=(128, 512), positions=(32, 128))
    assert sum(m.n for m in scored if m.metric == "loss" and m.whole and not m.domain) == len(
        {p.document for p in found if len(p.tokens) > 1}
    )


def test_what_cannot_be_scored_is_refused_in_a_sentence() -> None:
    with pytest.raises(MonitorError, match="no document was held out"):
        sample([], window=80, lengths=LENGTHS)
    with pytest.raises(MonitorError, match="a window of 1 tokens scores nothing"):
        sample(DOCUMENTS, window=1, lengths=LENGTHS)
    with pytest.raises(MonitorError, match="no token can be scored"):
        holdout(tiny(), [Piece(0, "a", 1, 0, text(1))], lengths=LENGTHS)
