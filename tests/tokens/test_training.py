"""A vocabulary of the corpus's own."""

import pytest

from mixture.errors import TokenizerError
from mixture.recipe.sources import TokenizerSpec
from mixture.tokens.tokenizer import load
from mixture.tokens.training import _sample, train_sentencepiece

from .conftest import prose

TEXTS = [prose(3_000, seed) for seed in range(40)]


def trained(tmp_path, texts=TEXTS, **settings):
    path = tmp_path / "new" / "m.model"
    train_sentencepiece(texts, path, **({"vocab_size": 420} | settings))
    return path


def test_equal_texts_give_equal_models_in_any_order(tmp_path):
    first = trained(tmp_path / "a").read_bytes()
    assert trained(tmp_path / "b", iter(TEXTS)).read_bytes() == first
    assert trained(tmp_path / "c", TEXTS[::-1]).read_bytes() == first
    small = trained(tmp_path / "d", TEXTS, sample_bytes=50_000).read_bytes()
    assert small != first
    assert trained(tmp_path / "e", TEXTS[::-1], sample_bytes=50_000).read_bytes() == small
    assert trained(tmp_path / "f", TEXTS, sample_bytes=50_000, seed=1).read_bytes() != small


def test_the_model_is_as_asked_for_and_quiet(tmp_path, capfd):
    path = trained(tmp_path)
    tokenizer = load(TokenizerSpec(kind="sentencepiece", path="m.model"), path.parent)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert (tokenizer.n_vocab, tokenizer.bos_id, tokenizer.eos_id) == (420, 1, 2)
    assert tokenizer.proof.outcome == "equal"
    for text in ("  two  spaces \n\t tab\r\n", "\x00\x07\ufeffé e\u0301 ﬁ ①", " lead", "trail ", "", "🙂" * 9):
        assert tokenizer.decode(tokenizer.encode_text(text)) == text
    assert len(tokenizer.encode_text(TEXTS[0])) < len(TEXTS[0].encode()) / 2


def test_too_little_text_is_one_sentence(tmp_path, capfd):
    with pytest.raises(
        TokenizerError, match=r"are too few.* for a vocabulary of 420 pieces \(it yields at most \d+; ask"
    ):
        trained(tmp_path, ["hello world"] * 3)
    with pytest.raises(TokenizerError, match=r"no text to train a vocabulary on"):
        trained(tmp_path, [])
    with pytest.raises(TokenizerError, match=r"no text to train"):
        trained(tmp_path, ["\n\n", ""])
    with pytest.raises(TokenizerError, match=r"a vocabulary of 100 pieces is too small; 256 are bytes"):
        trained(tmp_path, vocab_size=100)
    assert not list(tmp_path.rglob("*.model"))
    assert capfd.readouterr().err == ""


def test_the_sample_is_bounded_and_spread():
    texts = ["a" * 300_000, *(f"document {n} " * 400 for n in range(200))]
    stretches = _sample(texts, 100_000, 0)
    assert 90_000 < sum(map(len, stretches)) <= 100_000
    assert sum("document" in s for s in stretches) > 10
    assert _sample(texts[::-1], 100_000, 0) == stretches
    assert _sample(["x" * 100], 10, 0) == ["x" * 100]
