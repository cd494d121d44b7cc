"""tiktoken rank files: `base64-of-token rank`, one a line.

A rank file carries neither its split pattern nor its special tokens; both come from tiktoken's own definition of the
encoding that the file is named after (`cl100k_base.tiktoken`), or that the recipe names.
"""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import xxhash

from mixture.errors import TokenizerError
from mixture.hashing import fingerprint
from mixture.recipe.sources import TokenizerSpec
from mixture.storage import Place, as_place
from mixture.tokens.backends import MAX_VOCAB, Backend, Panic, Unsupported, no_panic, read_vocabulary
from mixture.tokens.seams import LINE

#: Ranks that a whole file of each known encoding holds: a file cut short is a different vocabulary.
RANK_COUNTS = {
    "r50k_base": 50_256,
    "p50k_base": 50_280,
    "p50k_edit": 50_280,
    "cl100k_base": 100_256,
    "o200k_base": 199_998,
    "o200k_harmony": 199_998,
}

#: gigatoken's name for each encoding's split pattern.
_SCHEMES = {
    "r50k_base": "gpt2",
    "p50k_base": "gpt2",
    "p50k_edit": "gpt2",
    "cl100k_base": "gpt4",
    "o200k_base": "o200k",
    "o200k_harmony": "o200k",
}


class Tiktoken(Backend):
    """A tiktoken encoding."""

    library = "tiktoken"
    slower = 20
    cuts = (LINE,)

    def __init__(self, definition: Mapping[str, Any]) -> None:
        import tiktoken

        self.name = str(definition["name"])
        self._ranks: dict[bytes, int] = definition["mergeable_ranks"]
        self._specials: dict[str, int] = definition["special_tokens"]
        self._encoding = tiktoken.Encoding(
            self.name,
            pat_str=definition["pat_str"],
            mergeable_ranks=self._ranks,
            special_tokens=self._specials,
        )
        self.specials = tuple(self._specials)
        self.n_vocab = 1 + max(*self._ranks.values(), *self._specials.values())
        self.eos_id = self._specials.get("<|endoftext|>")
        self.fingerprint = fingerprint(
            {
                "kind": "tiktoken",
                "pattern": definition["pat_str"],
                "ranks": xxhash.xxh3_128_hexdigest(_rank_file(self._ranks)),
                "specials": self._specials,
            }
        )

    def encode_text(self, text: str) -> list[int]:
        """Return the tokens of one text.

        Raises:
            TokenizerError: tiktoken's regular expression gives up (some hundred thousand spaces in a row).
        """
        try:
            with no_panic():
                return self._encoding.encode_ordinary(text)
        except Panic:
            raise TokenizerError(
                f"tiktoken cannot split a text of {len(text):,} characters that begins {text[:40]!r} (a stretch of "
                "white space too long for its regular expression); leave the document out, or clean it"
            ) from None

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens; special tokens by their names."""
        return self._encoding.decode(tokens)

    def token_id(self, name: str) -> int | None:
        """Return the id of a special or ordinary token."""
        return self._specials.get(name, self._ranks.get(name.encode()))

    def build_engine(self) -> Any:
        """Return gigatoken's engine over the same ranks.

        Raises:
            Unsupported: the ranks have gaps (p50k), which gigatoken refuses.
        """
        from gigatoken.gigatoken_rs import BPETokenizer

        handle, path = tempfile.mkstemp(suffix=".tiktoken")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(_rank_file(self._ranks))
            return BPETokenizer.from_tiktoken(path, _SCHEMES[self.name], None)
        except (ValueError, KeyError, RuntimeError) as error:
            raise Unsupported(f"gigatoken cannot take {self.name} ({error})") from error
        finally:
            Path(path).unlink(missing_ok=True)


def open_tiktoken(spec: TokenizerSpec, data: Place) -> Tiktoken:
    """Open a local rank file, or a published encoding by its name.

    Raises:
        TokenizerError: no such file or encoding, a malformed file, or no network.
    """
    name = spec.name or as_place(spec.path or "").name.removesuffix(".tiktoken")
    if name not in RANK_COUNTS:
        raise TokenizerError(
            f"tokenizer: {name!r} is not a known tiktoken encoding (known: {', '.join(RANK_COUNTS)}); a rank file "
            "has no split pattern of its own, so give tokenizer.name, or call the file after its encoding"
        )
    if spec.path is None:
        return Tiktoken(_download(name))
    path = data / spec.path
    ranks = _parse(read_vocabulary(path, "tiktoken rank file"), path)
    if len(ranks) != RANK_COUNTS[name]:
        raise TokenizerError(
            f"{path}: {len(ranks):,} ranks where {name} has {RANK_COUNTS[name]:,}; the file is cut short, or is "
            "another encoding's: fetch it again, or correct tokenizer.name"
        )
    return Tiktoken(_definition(name, lambda *_args, **_kwargs: ranks))


def _definitions() -> ModuleType:
    """Return a copy of tiktoken's own module of encodings, ours to change."""
    import importlib.util

    spec = importlib.util.find_spec("tiktoken_ext.openai_public")
    if spec is None or spec.loader is None:
        raise TokenizerError("tiktoken: its module of encodings is not installed; install tiktoken again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _definition(name: str, ranks: Callable[..., dict[bytes, int]] | None = None) -> dict[str, Any]:
    module = _definitions()
    if ranks is not None:
        module.__dict__["load_tiktoken_bpe"] = ranks
    definition: dict[str, Any] = module.ENCODING_CONSTRUCTORS[name]()
    return definition


def _download(name: str) -> dict[str, Any]:
    try:
        return _definition(name)
    except (OSError, ValueError) as error:
        raise TokenizerError(
            f"tokenizer: {name} cannot be downloaded ({type(error).__name__}); fetch {name}.tiktoken elsewhere and "
            "give tokenizer.path"
        ) from error


def _rank_file(ranks: Mapping[bytes, int]) -> bytes:
    """Return the one spelling of a rank file: by rank, one line each."""
    lines = [b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in sorted(ranks.items(), key=lambda x: x[1])]
    return b"".join(lines)


def _parse(content: bytes, path: Place) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise TokenizerError(
                f"{path}, line {number}: {line[:60]!r} is not `base64 rank`; give a tiktoken rank file"
            ) from None
    _check(ranks, path)
    return ranks


def _check(ranks: Mapping[bytes, int], path: Place) -> None:
    values = set(ranks.values())
    low, high = min(values, default=0), max(values, default=0)
    if low < 0 or high >= MAX_VOCAB:
        raise TokenizerError(
            f"{path}: rank {low if low < 0 else high} is outside 0 … 2^32-1; give a tiktoken rank file"
        )
    if len(values) < len(ranks):
        raise TokenizerError(f"{path}: two tokens have the same rank; the file is damaged, fetch it again")
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise TokenizerError(
            f"{path}: no rank for byte 0x{missing[0]:02x} ({len(missing)} of 256 bytes missing); the file is cut short "
            "or is not a tiktoken rank file: fetch it again"
        )
