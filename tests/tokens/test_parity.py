"""The engine is believed only as far as it is proved."""

import itertools

import numpy as np
import pytest

from mixture.errors import EngineMismatchError
from mixture.hashing import document_ids, draw
from mixture.tokens import hard, parity, tokenizer
from mixture.tokens.backend_sentencepiece import SentencePiece
from mixture.tokens.backend_tiktoken import Tiktoken
from mixture.tokens.engine import Engine
from mixture.tokens.parity import SAMPLE_BYTES, SLICE_BYTES
from mixture.tokens.routing import UNSETTLED, is_unsettled, unsettled

from .conftest import array, prose


def words(texts):
    pairs = np.frombuffer(document_ids([text.encode() for text in texts]), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


class Wrong:
    """An engine that is right but for texts with one word in them."""

    def __init__(self, right, word=b"Zebra"):
        self.right = right
        self.word = word

    def encode_batch(self, texts, parallel):
        right = self.right.encode_batch(texts, parallel=parallel)
        offsets = right.layout.offsets.data
        for row in [row for row, text in enumerate(texts) if self.word in text]:
            right.layout.content.data[offsets[row] + 3] += 1
        return right


@pytest.fixture
def wrong(monkeypatch):
    """Make every engine wrong on texts that hold a word."""

    def make(word):
        for kind in (Tiktoken, SentencePiece):
            real = kind.build_engine
            monkeypatch.setattr(kind, "build_engine", lambda self, real=real: Wrong(real(self), word))

    return make


def test_the_hard_set_is_large_and_the_same_everywhere():
    strings = hard.strings()
    assert len(strings) >= 300
    assert len(set(strings)) == len(strings)
    assert max(map(len, strings)) >= 2000
    assert all(text.encode().decode() == text for text in strings)
    again = hard._fixed.__wrapped__()
    assert again == strings
    # A change of the set is a change of what was proved: meant, or not at all.
    assert document_ids(["\0\0".join(strings).encode()]).hex() == HARD_SET


HARD_SET = "27939482ad1cf8da595c1cc0f201b32f"


def test_the_hard_set_holds_every_kind_of_trouble():
    everything = "".join(hard.strings())
    kinds = "\0\t\r\n\x0b\x1f\x7f\x85\xa0\u2028\u3000\ufeff\ufffd\u2581’\u200d\u0301\ud7ff\ue000שعก中안😀"  # noqa: RUF001
    assert not [c for c in kinds if c not in everything]
    assert "<mine> b" in " ".join(hard.strings(["<mine>"]))


def test_an_engine_that_fails_the_hard_set_is_left_out_loudly(opened, wrong):
    wrong(b"begin{align}")
    made = opened("trained")
    assert made.engine == "reference"
    assert made.proof.outcome == "differs"
    assert made.proof.differences == 1
    first = f"{made.proof.engine} differs from sentencepiece on 1 of {made.proof.strings} hard strings, first "
    assert made.notice.startswith(first + repr("\\begin{align}\n\\frac")[:-1])
    assert made.notice.endswith("; using the reference, about 15× slower")
    assert made.decode(made.encode_text("\\begin{align}")) == "\\begin{align}"


@pytest.mark.parametrize("error", [ImportError("no module"), ValueError("cannot"), RuntimeError("broken")])
def test_an_engine_that_cannot_be_built_is_left_out_loudly(opened, monkeypatch, error):
    def fail(self):
        raise error

    monkeypatch.setattr(SentencePiece, "build_engine", fail)
    made = opened("trained")
    assert made.engine == "reference"
    assert str(error) in made.notice


def test_one_wrong_document_stops_the_run_with_its_difference(opened, wrong):
    wrong(b"Zebra")
    made = opened("trained")
    assert made.engine.startswith("gigatoken")
    texts = [prose(2 * SAMPLE_BYTES, 1), "Zebra " * (SAMPLE_BYTES // 6 + 9), prose(SAMPLE_BYTES + 5, 2)]
    with pytest.raises(
        EngineMismatchError, match=r"and sentencepiece differ from token 3 of a slice .*Zebra"
    ) as caught:
        made.check(array(*texts), *words(texts))
    assert "\n" not in str(caught.value)
    assert made.check(array(texts[0], texts[2]), *words([texts[0], texts[2]])) == 2


def test_a_shorter_output_is_a_difference_too():
    text, right = "abc", np.array([1, 2, 3], dtype=np.uint32)

    def engine(texts):
        return right[:2], np.array([0, 2])

    with pytest.raises(EngineMismatchError, match=r"from token 2 .*\[1, 2\] against \[1, 2, 3\]"):
        parity.check([text], engine, lambda _: right, ("fast", "slow"))


def test_the_sample_depends_on_each_document_alone():
    texts = [prose(size, seed) for seed, size in enumerate([100, 900_000, 40_000, 1_200_000, 5, 300_000] * 3)]
    hi, lo = words(texts)
    whole = parity.sample(array(*texts), hi, lo)
    one_by_one = [s for i, t in enumerate(texts) for s in parity.sample(array(t), hi[i : i + 1], lo[i : i + 1])]
    assert whole == one_by_one
    assert len(whole) >= 3
    backwards = parity.sample(array(*texts[::-1]), hi[::-1].copy(), lo[::-1].copy())
    assert sorted(backwards) == sorted(whole)


def test_slices_are_short_stretches_of_their_documents():
    texts = ["漢字🙂é" * 200_000, "short é"]
    hi, lo = words(texts)
    found = parity.sample(array(texts[0]), hi[:1], lo[:1])
    assert len(found) == 1
    assert found[0] in texts[0]
    assert SLICE_BYTES - 8 < len(found[0].encode()) <= SLICE_BYTES
    # A short document is taken whole when its draw is low enough: look for one.
    numbers = np.arange(400_000, dtype=np.uint64)
    low = numbers[draw(0, "parity", numbers, numbers) < 2**40]
    assert all(parity.sample(array("short é"), low[i : i + 1], low[i : i + 1]) == ["short é"] for i in range(len(low)))


def test_about_one_slice_for_each_mebibyte():
    text = "x" * 4096
    numbers = np.arange(20_000, dtype=np.uint64)
    taken = (draw(0, "parity", numbers, numbers) * 2.0**-64 < len(text) / SAMPLE_BYTES).sum()
    assert 50 < taken < 110


def test_characters_new_to_unicode_go_to_the_reference(opened):
    fast, slow = opened("cl100k"), opened("cl100k", engine="reference")
    texts = ["plain", "x\U000323b0's \U000323b0", "", "naïve 漢字 🙂", "1\U00011de011", "end"]
    assert unsettled(array(*texts)) == [1, 4]
    assert fast.fast.engine.encode_text(texts[1]).tolist() != slow.encode_text(texts[1]).tolist()
    for one, other in zip(fast.encode(array(*texts)), slow.encode(array(*texts)), strict=True):
        assert np.array_equal(one, other)
    assert [fast.encode_text(t).tolist() for t in texts] == [slow.encode_text(t).tolist() for t in texts]


def test_routing_sees_every_border_in_utf8():
    codes = sorted({c + d for pair in UNSETTLED for c in pair for d in (-1, 0, 1)} | {0x20, 0x7FF, 0x800, 0x10FFFF})
    texts = [f"é{chr(code)}" for code in codes] + [chr(code) for code in codes]
    assert unsettled(array(*texts)) == [row for row, text in enumerate(texts) if is_unsettled(text)]
    inside = [any(low <= code <= high for low, high in UNSETTLED) for code in codes]
    assert [is_unsettled(chr(code)) for code in codes] == inside
    assert unsettled(array()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cl100k", "o200k"])
def test_engine_and_reference_agree_on_every_settled_character(opened, name):
    fast = opened(name).fast.engine
    slow = opened(name, engine="reference")
    codes = [c for c in range(0xF0000) if not 0xD800 <= c < 0xE000 and not is_unsettled(chr(c))]
    for start in range(0, len(codes), 256):
        text = "\n".join(f"{c}'s{c} 1{c}11 a{c}b A{c}B" for c in map(chr, codes[start : start + 256]))
        assert fast.encode_text(text).tolist() == slow.backend.encode_text(text), hex(codes[start])


def test_a_cache_that_grows_too_large_is_thrown_away(opened, monkeypatch):
    backend = opened("cl100k", engine="reference").backend
    engine = Engine(backend.build_engine, cache_bytes=1 << 20)
    draw_from = np.random.default_rng(0)
    sizes = []
    for _ in range(4):
        noise = draw_from.integers(97, 123, 6_000_000, dtype=np.uint8)
        noise[draw_from.random(len(noise)) < 0.12] = 32
        text = noise.tobytes().decode()
        sizes.append(len(engine.encode(array(text))[0]))
        assert sizes[-1] == len(engine.encode_text(text))
    assert engine.builds > 1
    # Where the system does not say how much memory is used, text is counted instead.
    monkeypatch.setattr("mixture.tokens.engine._resident", lambda: None)
    blind = Engine(backend.build_engine, cache_bytes=1 << 20)
    monkeypatch.setattr("mixture.tokens.engine._BLIND_BYTES", 1000)
    blind.encode(array("x" * 2000))
    assert blind.builds == 2


def test_documents_together_and_alone_are_the_same(opened):
    engine = opened("trained").fast
    texts = array(*[prose(200, seed) for seed in range(50)], "", prose(9_000, 1))
    tokens, offsets = engine.encode(texts)
    alone = [engine.encode_text(text.decode()).tolist() for text in texts]
    assert [tokens[a:b].tolist() for a, b in itertools.pairwise(offsets)] == alone
    nothing, start = engine.encode([])
    assert (nothing.tolist(), start.tolist()) == ([], [0])


def test_the_reference_needs_no_check(opened):
    made = opened("trained", engine="reference")
    text = prose(SAMPLE_BYTES * 2)
    assert made.check(array(text), *words([text])) == 0
    assert made.proof == tokenizer.Proof("none", "not wanted")
