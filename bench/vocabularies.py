"""Vocabularies: the given ones, one made where none is given, and the same one as others read it.

    cl100k_base.tiktoken   ranks of tokens   ─▶  tokenizer.json: the tokens, the merges that make them, split pattern

datatrove and dolma take a `tokenizer.json` alone. A rank file says which tokens there are and in which order they were
made, not of which two: those two are what is left of a token's bytes after every earlier merge. With ranks a 0, b 1,
c 2, ab 3, abc 4 the token `abc` is first `ab` + `c`, so its merge is that; a longer way round cannot come out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from bench.corpora import Corpus, texts, up_to

#: Suffix → the recipe's word for the kind.
KINDS = {".tiktoken": "tiktoken", ".model": "sentencepiece", ".json": "huggingface"}
SEPARATOR = "<|endoftext|>"
_SAMPLE_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary file and the recipe's word for its kind."""

    path: Path
    kind: str

    @property
    def name(self) -> str:
        """What to call it in the table."""
        return self.path.name

    @property
    def spec(self) -> dict[str, Any]:
        """The recipe's `tokenizer`."""
        return {"kind": self.kind, "path": f"vocabulary/{self.path.name}"}


def given(path: Path) -> Vocabulary:
    """Return the vocabulary of a file.

    Raises:
        SystemExit: the file's suffix says nothing, or it is not there.
    """
    if path.suffix not in KINDS:
        raise SystemExit(f"bench: {path}: a vocabulary ends in {', '.join(KINDS)}")
    if not path.is_file():
        raise SystemExit(f"bench: {path} is not a file; give --tokenizer a vocabulary")
    return Vocabulary(path.resolve(), KINDS[path.suffix])


def made(corpus: Corpus, folder: Path, size: int) -> Vocabulary:
    """Make a byte-level BPE of `size` tokens from a corpus's first megabytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=[SEPARATOR], show_progress=False
    )
    tokenizer.train_from_iterator(up_to(texts(corpus.files), _SAMPLE_CHARACTERS), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return given(path)


def for_peers(vocabulary: Vocabulary, folder: Path) -> Path | None:
    """Write a vocabulary as a `tokenizer.json` that old and new readers take; None for a SentencePiece model.

    Merges are written as `left right`, the older of the two spellings.
    """
    if vocabulary.kind == "sentencepiece":
        return None
    if vocabulary.kind == "tiktoken":
        content = _from_ranks(vocabulary.path)
    else:
        content = json.loads(vocabulary.path.read_text(encoding="utf-8"))
        merges = content["model"]["merges"]
        content["model"]["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "peers.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _from_ranks(path: Path) -> dict[str, Any]:
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    spelled = {token: _spell(token) for token in ranks}
    end = max(ranks.values()) + 1
    split = {"type": "Split", "pattern": {"Regex": _pattern(path.stem)}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": end, "content": SEPARATOR} | special],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            # tiktoken looks a whole word up before it merges; cl100k has tokens that merges alone do not reach.
            "ignore_merges": True,
            "vocab": {spelled[token]: rank for token, rank in ranks.items()} | {SEPARATOR: end},
            "merges": [" ".join(map(_spell, pair)) for pair in merges(ranks)],
        },
    }


def merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the two tokens that make each token of more than a byte, by rank.

    Example: of ranks a 0, b 1, c 2, ab 3, abc 4 come (a, b) and (ab, c).
    """
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[at : at + 1] for at in range(len(token))]
        while len(parts) > 2:
            found = [ranks.get(parts[at] + parts[at + 1], rank) for at in range(len(parts) - 1)]
            best = min(found)
            if best >= rank:
                break
            at = found.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]


def _spell(token: bytes) -> str:
    """Return a token's bytes as the byte-level alphabet writes them, in which a space is `Ġ`."""
    return token.decode("latin-1").translate(_alphabet())


def _alphabet() -> dict[int, int]:
    """Return the byte-level alphabet of GPT-2: printable bytes stand for themselves, the others for 256 and on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: 256 + number for number, byte in enumerate(hidden)}


def _pattern(name: str) -> str:
    """Return the split pattern of a published encoding, in the dialect of `tokenizers`.

    The ranks in its definition are not asked for. `{1,3}+` takes one to three and gives none back to tiktoken's
    library; to the other, it is one to three, again and again. Nothing behind it could ask for some back.
    """
    from tiktoken_ext import openai_public as published

    with mock.patch.object(published, "load_tiktoken_bpe", return_value={}):
        return str(published.ENCODING_CONSTRUCTORS[name]()["pat_str"]).replace("}+", "}")
