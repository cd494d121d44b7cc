"""A long text cut at seams has the tokens of the whole."""

import re

import numpy as np
import pytest

from mixture.tokens import seams
from mixture.tokens.seams import Cut

from .conftest import prose


@pytest.fixture
def short(monkeypatch):
    """Cut texts of some thousand characters already."""
    monkeypatch.setattr(seams, "LONG_CHARACTERS", 4_000)
    monkeypatch.setattr(seams, "PIECE_CHARACTERS", 2_000)
    monkeypatch.setattr(seams, "WINDOW_CHARACTERS", 100)


@pytest.mark.parametrize("name", ["r50k", "cl100k", "o200k", "trained", "prefixed", "huggingface"])
def test_seams_change_no_token(opened, short, name):
    backend = opened(name, engine="reference").backend
    text = prose(120_000, 3)
    parts = list(seams.pieces(text, backend.cuts, backend.encode_text))
    assert len(parts) > 30
    joined = seams.encode_long(text, backend.cuts, backend.encode_text)
    assert joined.dtype == np.uint32
    assert joined.tolist() == list(backend.encode_text(text))


def test_at_full_size_too(opened):
    tokenizer = opened("prefixed", engine="reference")
    text = prose(2_300_000, 4)
    assert tokenizer.encode_text(text).tolist() == tokenizer.backend.encode_text(text)


def test_pieces_are_the_text(opened, short):
    backend = opened("cl100k", engine="reference").backend
    text = prose(50_000, 5)
    parts = list(seams.pieces(text, backend.cuts, backend.encode_text))
    assert "".join(parts) == text
    assert all(part.endswith("\n") for part in parts[:-1])
    backend = opened("prefixed", engine="reference").backend
    # The space that the dummy prefix puts back is left out.
    assert " ".join(seams.pieces(text, backend.cuts, backend.encode_text)) == text


def test_a_text_without_seams_stays_whole(opened, short):
    backend = opened("cl100k", engine="reference").backend
    text = "x" * 20_000
    assert list(seams.pieces(text, backend.cuts, backend.encode_text)) == [text]
    assert list(seams.pieces(text, (), backend.encode_text)) == [text]


def test_a_seam_that_does_not_hold_is_passed_over(short):
    def greedy(text):
        """One token a character, but one for a line's end between e and a."""
        return [sum(map(ord, token)) for token in re.findall(r"e\.\na|.|\n", text)]

    text = "abc.\nde.\n" * 2_000
    cut = Cut(re.compile(r"\.\n"), 0)
    parts = list(seams.pieces(text, (cut,), greedy))
    assert len(parts) > 3
    joined = [token for part in parts for token in greedy(part)]
    assert joined == greedy(text)
    assert all(part.endswith("c.\n") for part in parts[:-1])


def test_a_rule_that_never_holds_gives_way_to_the_next(short):
    calls = []

    def jealous(text):
        calls.append(len(text))
        return [0, *map(ord, text)] if text.startswith("!") else list(map(ord, text))

    text = ("word !\n" + "other\n") * 2_000
    never, good = Cut(re.compile(r"(?=!)"), 0), Cut(re.compile(r"\n"), 0)
    parts = list(seams.pieces(text, (never, good), jealous))
    assert len(parts) > 3
    assert "".join(parts) == text
    assert len([c for c in calls if c]) < 3 * (16 + len(parts))


def test_models_whose_pieces_cross_words_are_never_cut(opened, home):
    from mixture.tokens.backend_sentencepiece import Model, _cuts

    model = opened("prefixed").backend._model
    assert _cuts(model) == (seams.PREFIXED_WORD,)
    assert _cuts(opened("trained").backend._model) == (seams.WORD,)
    crossing = Model((*model.pieces, ("of▁the", -1.0, 1)), model.trainer, model.normalizer)
    assert _cuts(crossing) == ()
