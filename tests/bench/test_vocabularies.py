"""The vocabulary that the peers get is the one that we use."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import tiktoken
from tokenizers import Tokenizer

from bench import vocabularies
from bench.vocabularies import SEPARATOR

_TOKENS = [b"th", b" t", b"he", b"the", b" the", b"00", b"\xc3\xa9", b"  ", b"\n\n", b"Th", b"er", b" ther", b"the "]
TEXTS = [
    "the theory, the other: there!",
    "12345 00000 1000",
    "caf\u00e9 \u00e9\u00e9  the\n\n\n  the   ",
    "Don't they'LL the<|endoftext|>",
    "",
]


@pytest.fixture
def ranks() -> dict[bytes, int]:
    return {bytes([byte]): byte for byte in range(256)} | {token: 256 + at for at, token in enumerate(_TOKENS)}


def test_merges_are_what_the_earlier_ones_leave_of_a_token() -> None:
    ranks = {b"a": 0, b"b": 1, b"c": 2, b"ab": 3, b"abc": 4}
    assert list(vocabularies.merges(ranks)) == [(b"a", b"b"), (b"ab", b"c")]


def test_a_token_that_merges_do_not_reach_has_none() -> None:
    assert list(vocabularies.merges({b"a": 0, b"b": 1, b"c": 2, b"abc": 3})) == []


def test_a_rank_file_becomes_a_tokenizer_json_of_the_same_tokens(ranks: dict[bytes, int], tmp_path: Path) -> None:
    path = tmp_path / "cl100k_base.tiktoken"
    path.write_bytes(b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in ranks.items()))
    pattern = tiktoken_pattern()
    reference = tiktoken.Encoding("small", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    made = vocabularies.for_peers(vocabularies.given(path), tmp_path / "out")
    assert made is not None
    theirs = Tokenizer.from_file(str(made))
    assert theirs.token_to_id(SEPARATOR) == len(ranks)
    for text in TEXTS[:3]:
        assert theirs.encode(text, add_special_tokens=False).ids == reference.encode_ordinary(text)


def tiktoken_pattern() -> str:
    """The pattern as tiktoken reads it."""
    from tiktoken_ext import openai_public

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
        return str(openai_public.ENCODING_CONSTRUCTORS["cl100k_base"]()["pat_str"])


def test_merges_are_spelled_as_old_readers_read_them(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": {"merges": [["a", "b"], "ab c"]}}))
    made = vocabularies.for_peers(vocabularies.given(path), tmp_path / "out")
    assert made is not None
    assert json.loads(made.read_text())["model"]["merges"] == ["a b", "ab c"]


def test_peers_take_no_sentencepiece_model_and_a_file_must_be_a_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "some.model").touch()
    assert vocabularies.for_peers(vocabularies.given(tmp_path / "some.model"), tmp_path) is None
    with pytest.raises(SystemExit, match="a vocabulary ends in"):
        vocabularies.given(tmp_path / "vocab.txt")
    with pytest.raises(SystemExit, match="is not a file"):
        vocabularies.given(tmp_path / "none.model")
