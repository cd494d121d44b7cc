"""Small vocabularies of every kind, made on the spot: no network, no file that is not in the repository."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixture.recipe.sources import TokenizerSpec
from mixture.tokens import backend_tiktoken
from mixture.tokens.tokenizer import Tokenizer, load
from mixture.tokens.training import train_sentencepiece

WORDS = """
    the of and to in is it's don't return self import def class value 1999 3.14 ünïcödé naïve 漢字 日本語 Привет 🙂
    tokens, stream. length; domain: (book) [code] {x} don’t WE'LL == != -> # // \\alpha_{i}
""".split()  # noqa: RUF001, SIM905 - read as prose


def prose(size: int, seed: int = 0) -> str:
    """Real-shaped text of about `size` characters: words, sentences, lines, paragraphs, some code."""
    draw = random.Random(seed)
    out: list[str] = []
    count = 0
    while count < size:
        words = " ".join(draw.choice(WORDS) for _ in range(draw.randint(3, 14)))
        line = (
            draw.choice(("", "", "    ", "\t"))
            + words
            + draw.choice((".\n", "\n", "\n\n", ".\r\n", " end of line\nNext "))
        )
        out.append(line)
        count += len(line)
    return "".join(out)


def array(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


def rank_file(path: Path, *, lines: int | None = None) -> Path:
    """A whole small rank file: 256 bytes, in an odd order, then merges over `prose`."""
    tokens = [bytes([(i * 37) % 256]) for i in range(256)]
    tokens += [b"th", b"the", b" t", b" the", b"in", b" in", b"er", b"'s", b"\n\n", b"  ", b"    ", b"19", b"<|", b"|>"]
    rows = [base64.b64encode(token) + b" %d" % rank for rank, token in enumerate(tokens)]
    path.write_bytes(b"".join(row + b"\n" for row in rows[:lines]))
    return path


RANKS = 270


def hf_tokenizer(path: Path, *, words: bool = False) -> Path:
    """A byte-level tokenizer.json with specials, a plain added token, a template, truncation and padding."""
    import tokenizers
    from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers

    made = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r"\w+(?=\d)|\w+|\s+(?=x)|\s+|[^\w\s]{1,2}"), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not words)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, level]) if words else level
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<s>", "</s>", "<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([prose(20_000)], trainer)
    made.add_tokens(["[TOOL]"])
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    made.enable_truncation(4)
    made.enable_padding(length=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(str(path))
    return path


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with one vocabulary of each kind."""
    root = tmp_path_factory.mktemp("vocabularies")
    for name in ("r50k_base", "cl100k_base", "o200k_base"):
        rank_file(root / f"{name}.tiktoken")
    hf_tokenizer(root / "hf" / "tokenizer.json")
    texts = [prose(2_000, seed) for seed in range(60)]
    train_sentencepiece(texts, root / "sp.model", vocab_size=500)
    write_prefixed(root / "prefixed.model", texts)
    return root


def write_prefixed(path: Path, texts: list[str], **settings: Any) -> None:
    """A model as published ones are: with a dummy prefix."""
    import io

    import sentencepiece

    out = io.BytesIO()
    options = {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "vocab_size": 500,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(texts).split("\n")), model_writer=out, minloglevel=3, **(options | settings)
    )
    path.write_bytes(out.getvalue())


@pytest.fixture(autouse=True)
def _small_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the small rank files pass for whole ones."""
    monkeypatch.setattr(backend_tiktoken, "RANK_COUNTS", {**backend_tiktoken.RANK_COUNTS, **SMALL})


SMALL = {"r50k_base": RANKS, "cl100k_base": RANKS, "o200k_base": RANKS}

SPECS: dict[str, dict[str, str]] = {
    "bytes": {"kind": "bytes"},
    "r50k": {"kind": "tiktoken", "path": "r50k_base.tiktoken"},
    "cl100k": {"kind": "tiktoken", "path": "cl100k_base.tiktoken"},
    "o200k": {"kind": "tiktoken", "path": "o200k_base.tiktoken"},
    "trained": {"kind": "sentencepiece", "path": "sp.model"},
    "prefixed": {"kind": "sentencepiece", "path": "prefixed.model"},
    "huggingface": {"kind": "huggingface", "path": "hf"},
}


@pytest.fixture
def opened(home: Path) -> Callable[..., Tokenizer]:
    """Open one of `SPECS` by its name."""

    def open_one(name: str, *, engine: Any = "auto", **more: Any) -> Tokenizer:
        return load(TokenizerSpec.model_validate(SPECS[name] | more), home, engine=engine)

    return open_one


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write a changed copy of a tokenizer.json."""
    value = json.loads(source.read_text())
    change(value)
    target.write_text(json.dumps(value))
    return target
