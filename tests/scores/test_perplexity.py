"""Perplexity, against a stand-in whose scores can be summed by hand, and against KenLM itself where it is installed."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from mixture.errors import InputError
from mixture.scores import perplexity
from tests.scores import stub_kenlm

ARPA = r"""\data\
ngram 1=6
ngram 2=4

\1-grams:
-1.0	<unk>
0	<s>	-0.3
-0.8	</s>
-0.6	the	-0.2
-1.1	cat	-0.1
-1.3	sat	-0.1

\2-grams:
-0.2	<s> the
-0.4	the cat
-0.5	cat sat
-0.3	sat </s>

\end\
"""


def of(model: perplexity.Perplexity, text: str) -> float:
    return model.of(memoryview(text.encode()))


@pytest.mark.parametrize(
    ("text", "score", "words"),
    [
        ("aa bbb", 6, 3),
        ("aa\nbbb", 7, 4),
        ("aa bbb\n", 7, 4),
        ("", 1, 1),
        ("ü", 3, 2),
    ],
)
def test_it_is_the_mean_over_words_and_line_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, score: float, words: int
) -> None:
    stub_kenlm.install(monkeypatch)
    path = tmp_path / "m.bin"
    path.write_text("model")
    assert of(perplexity.Perplexity(path), text) == pytest.approx(10 ** (score / words))


def test_no_text_is_infinitely_perplexing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_kenlm.install(monkeypatch)
    path = tmp_path / "m.bin"
    path.write_text("model")
    assert of(perplexity.Perplexity(path), "x" * 10_000) == 1e308


def test_a_sentencepiece_model_cuts_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sentencepiece

    stub_kenlm.install(monkeypatch)
    path = tmp_path / "m.bin"
    path.write_text("model")
    (tmp_path / "text").write_text("the cat sat on the mat\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "sp"), vocab_size=18, model_type="char"
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sp.model"))
    cut = pieces.encode("the cat", out_type=str)
    expected = 10 ** ((sum(len(piece.encode()) for piece in cut) + 1) / (len(cut) + 1))
    assert of(perplexity.Perplexity(path, tmp_path / "sp.model"), "the cat") == pytest.approx(expected)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_kenlm.install(monkeypatch)
    path = tmp_path / "m.bin"
    path.write_text("else")
    with pytest.raises(InputError, match=r"m\.bin: not a KenLM model \(Cannot read .* \(no magic\)\); give a binary"):
        perplexity.Perplexity(path)
    good = tmp_path / "good.bin"
    good.write_text("model")
    with pytest.raises(InputError, match=r"m\.bin: not a SentencePiece model"):
        perplexity.Perplexity(good, path)


def test_without_the_module_one_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_kenlm.remove(monkeypatch)
    with pytest.raises(InputError, match="needs the module kenlm, which is not here; `pip install kenlm`"):
        perplexity.Perplexity(tmp_path / "m.bin")


def test_kenlm_itself_agrees_with_the_sum_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    importlib.invalidate_caches()
    path = tmp_path / "m.arpa"
    path.write_text(ARPA)
    model = perplexity.Perplexity(path)
    assert of(model, "the cat sat") == pytest.approx(10 ** ((0.2 + 0.4 + 0.5 + 0.3) / 4), rel=1e-5)
    assert of(model, "") == pytest.approx(10 ** (0.3 + 0.8), rel=1e-5)
