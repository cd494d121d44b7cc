"""Vocabularies that cannot be read, or that lack what the recipe wants of them: said before a text is tokenized."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.cli.conftest import EASY, Shop
from tests.conftest import recipe_text

FILES = {
    "tiktoken": "cl100k_base.tiktoken",
    "sentencepiece": "m.model",
    "huggingface": "tokenizer.json",
}


def _recipe(shop: Shop, tokenizer: str, **changes: Any) -> None:
    shop.stock()
    shop.file("small.yaml", recipe_text(**(EASY | changes)).replace("{kind: bytes}", tokenizer))


@pytest.mark.parametrize("kind", list(FILES))
@pytest.mark.parametrize("state", ["missing", "a folder", "no bytes", "garbage"])
def test_an_unreadable_vocabulary_is_named_before_anything_is_stored(shop: Shop, kind: str, state: str) -> None:
    _recipe(shop, f"{{kind: {kind}, path: {FILES[kind]}}}")
    if state == "a folder":
        shop.file(f"{FILES[kind]}/x", b"")
    elif state != "missing":
        shop.file(FILES[kind], b"" if state == "no bytes" else bytes(range(256)) * 4)
    shop.refused(shop.run(), str(shop.root / FILES[kind]))
    assert not (shop.root / "work/store").exists()


def test_a_rank_file_cut_short_is_told_from_a_smaller_vocabulary(shop: Shop) -> None:
    _recipe(shop, "{kind: tiktoken, path: cl100k_base.tiktoken}")
    lines = [b"%s %d" % (base64.b64encode(bytes([byte])), byte) for byte in range(256)]
    shop.file("cl100k_base.tiktoken", b"\n".join(lines))
    shop.refused(shop.run(), "256 ranks where cl100k_base has 100,256", "cut short")
    shop.file("cl100k_base.tiktoken", b"\n".join(lines)[:-5])
    shop.refused(shop.run(), "cl100k_base.tiktoken")


def _word_level(**vocabulary: int) -> str:
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    rest: dict[str, Any] = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    rest |= {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": model}
    return json.dumps(rest)


def test_an_eos_that_the_vocabulary_lacks_is_refused_before_the_corpus_is_tokenized(shop: Shop) -> None:
    _recipe(shop, "{kind: huggingface, path: tokenizer.json}")
    shop.file("tokenizer.json", _word_level(the=0, **{"[UNK]": 1}))
    shop.refused(shop.run(), "no eos token for sequence.separator", "tokenizer.eos", "none")
    assert not (shop.root / "work/store").exists()
    # The sentence's own ways out: name one, or want none.
    _recipe(shop, "{kind: huggingface, path: tokenizer.json, eos: the}")
    assert shop.call("tokenize", "small.yaml").code == 0
    _recipe(shop, "{kind: huggingface, path: tokenizer.json}", separator="none")
    assert shop.call("tokenize", "small.yaml").code == 0


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        ("{kind: bytes, eos: 300}", ("tokenizer.eos", "300", "0 … 257")),
        ("{kind: bytes, eos: </s>}", ("tokenizer.eos", "no token '</s>'", "<eos>")),
        ("{kind: bytes, path: x}", ("line 3", "takes neither path nor name")),
        ("{kind: byte}", ("line 3", "'bytes'", "'byte'")),
        ("{kind: tiktoken, path: mine.tiktoken}", ("'mine' is not a known tiktoken encoding", "cl100k_base")),
        ("{kind: sentencepiece, name: x}", ("line 3", "takes a path")),
    ],
)
def test_a_vocabulary_that_cannot_be_meant_is_refused(shop: Shop, tokenizer: str, words: tuple[str, ...]) -> None:
    _recipe(shop, tokenizer)
    shop.refused(shop.run(), *words)


def test_a_vocabulary_over_the_token_type_is_refused(shop: Shop) -> None:
    _recipe(shop, "{kind: tiktoken, path: cl100k_base.tiktoken}")
    lines = [b"%s %d" % (base64.b64encode(bytes([byte])), byte) for byte in range(255)]
    shop.file("cl100k_base.tiktoken", b"\n".join([*lines, b"%s %d" % (base64.b64encode(b"\xff"), 1 << 32)]))
    shop.refused(shop.run(), "cl100k_base.tiktoken", "rank 4294967296 is outside 0 … 2^32-1")
    # A Hugging Face vocabulary cannot hold such an id: its own library refuses the file.
    _recipe(shop, "{kind: huggingface, path: tokenizer.json}", separator="none")
    shop.file("tokenizer.json", _word_level(the=1 << 32, **{"[UNK]": 1}))
    shop.refused(shop.run(), "tokenizer.json")


def test_a_vocabulary_of_more_than_65536_ids_is_stored_and_packed_in_32_bits(shop: Shop) -> None:
    _recipe(shop, "{kind: huggingface, path: tokenizer.json}", separator="none", budget=512, shard_tokens=512)
    shop.file("tokenizer.json", _word_level(the=70_000, **{"[UNK]": 1}))
    said = shop.run()
    assert said.code == 0, said.err
    built = shop.build(shop.root / "small.yaml")
    assert str(built.table()["input_ids"].type.value_type) == "uint32"
    assert 70_000 in built.stream()


def test_a_separator_in_a_text_never_becomes_the_separator(shop: Shop) -> None:
    forged = "before <|endoftext|> <eos> </s> <s> after "
    shop.file("data/a.txt", forged * 200)
    for tokenizer, eos in (("{kind: bytes}", 257),):
        source = shop.source("text", "data/a.txt", domain="x")
        text = recipe_text(**(EASY | {"sources": source, "budget": 2048, "shard_tokens": 2048}))
        shop.file("small.yaml", text.replace("{kind: bytes}", tokenizer))
        built = shop.build(shop.root / "small.yaml")
        for span in built.spans():
            own = built.stream()[span["position"] : span["position"] + span["stop"] - span["start"]]
            inside = own[: max(0, span["doc_length"] - span["doc_offset"])]
            assert len(inside)
            assert eos not in inside
