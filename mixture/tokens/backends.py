"""Vocabularies behind one door: what a reference tokenizer must be able to do, and the one made of bytes.

A backend is the *reference*: slow, published by those who made the vocabulary, right by definition. The fast engine
(`engine.py`) stands in for it where it proves equal (`parity.py`).

    "Hi <s>"  →  ordinary tokens of the seven characters; a document can never forge a separator
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from mixture.errors import TokenizerError
from mixture.storage import Place, read_bytes
from mixture.tokens.seams import Cut, encode_long

if TYPE_CHECKING:
    from mixture.recipe.sources import TokenizerSpec

U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]

#: Token ids are stored as uint32 at most.
MAX_VOCAB = 1 << 32


class Unsupported(Exception):  # noqa: N818 - not an error: the reference does the work
    """The fast engine cannot stand in for this vocabulary; the message says why."""


class Panic(Exception):  # noqa: N818 - what Rust calls it
    """A library written in Rust gave up."""


@contextlib.contextmanager
def no_panic() -> Iterator[None]:
    """Turn a Rust panic, which passes by every `except Exception`, into an exception.

    Raises:
        Panic: with the panic's message.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise Panic(str(error)) from None


class Backend(ABC):
    """One vocabulary, loaded.

    Attributes:
        library: package that does the work, for messages.
        slower: about how many times slower than the fast engine, measured on books.
        name: what people call the vocabulary.
        fingerprint: 32 hex digits of the vocabulary's content; file names and paths do not enter.
        n_vocab: 1 + the largest id, specials included.
        bos_id: opening separator, or None.
        eos_id: closing separator, or None.
        specials: names of the special tokens; in a text they are ordinary characters.
        added: names of added tokens that are vocabulary: in a text they are these tokens.
        cuts: where a very long text may be cut; see `seams`.
        by_class: whether tokens depend on Unicode's classes of characters; see `routing`.
    """

    library: ClassVar[str]
    slower: ClassVar[int] = 1
    name: str
    fingerprint: str
    n_vocab: int
    bos_id: int | None = None
    eos_id: int | None = None
    specials: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    cuts: tuple[Cut, ...] = ()
    by_class: ClassVar[bool] = True

    @abstractmethod
    def encode_text(self, text: str) -> Sequence[int] | U32:
        """Return the tokens of one text, whole, without separators."""

    @abstractmethod
    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens; bytes that are not UTF-8 become U+FFFD."""

    @abstractmethod
    def token_id(self, name: str) -> int | None:
        """Return the id of a token by its name, special or not."""

    def build_engine(self) -> Any:
        """Return a gigatoken backend for this vocabulary, without special tokens.

        Raises:
            Unsupported: gigatoken has no such tokenizer.
        """
        raise Unsupported(f"gigatoken has no engine for {self.library}")

    def encode(self, texts: Sequence[bytes]) -> tuple[U32, I64]:
        """Return flat tokens and n+1 offsets of n documents given as UTF-8."""
        return laid_out([encode_long(text.decode(), self.cuts, self.encode_text) for text in texts])


class Bytes(Backend):
    """UTF-8 bytes as tokens: 0 … 255, bos 256, eos 257. Needs no file and no engine."""

    library = "bytes"
    name = "bytes"
    n_vocab = 258
    bos_id = 256
    eos_id = 257
    specials = ("<bos>", "<eos>")

    def __init__(self) -> None:
        from mixture.hashing import fingerprint

        self.fingerprint = fingerprint({"kind": "bytes", "bos": 256, "eos": 257})

    def encode_text(self, text: str) -> U32:
        """Return the UTF-8 bytes of a text."""
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32)

    def encode(self, texts: Sequence[bytes]) -> tuple[U32, I64]:
        """Return the bytes of n documents, widened in one copy."""
        return np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.uint32), offsets_of(texts)

    def decode(self, tokens: list[int]) -> str:
        """Return the text; separators are left out."""
        return bytes(token for token in tokens if token < 256).decode(errors="replace")

    def token_id(self, name: str) -> int | None:
        """Return the id of `<bos>` or `<eos>`."""
        return {"<bos>": 256, "<eos>": 257}.get(name)


def laid_out(parts: Sequence[U32]) -> tuple[U32, I64]:
    """Lay documents' tokens end to end: flat, and n+1 offsets."""
    return (np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32)), offsets_of(parts)


def offsets_of(parts: Sequence[Sized]) -> I64:
    """Return where each of n things begins when they lie end to end, shape (n + 1,)."""
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=offsets[1:])
    return offsets


def read_vocabulary(path: Place, what: str) -> bytes:
    """Read a vocabulary file.

    Raises:
        TokenizerError: it is missing or cannot be read.
    """
    try:
        return read_bytes(path)
    except FileNotFoundError:
        raise TokenizerError(
            f"{path}: no such {what}; check tokenizer.path, which is relative to the data root (--data)"
        ) from None
    except OSError as error:
        raise TokenizerError(f"{path}: the {what} cannot be read ({error.strerror or error})") from error


def version(library: str) -> str:
    """Return the installed version of a package, `?` where it has none."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "?"


def _tiktoken(spec: TokenizerSpec, data: Place) -> Backend:
    from mixture.tokens.backend_tiktoken import open_tiktoken

    return open_tiktoken(spec, data)


def _sentencepiece(spec: TokenizerSpec, data: Place) -> Backend:
    from mixture.tokens.backend_sentencepiece import SentencePiece

    return SentencePiece(data / (spec.path or ""))


def _huggingface(spec: TokenizerSpec, data: Place) -> Backend:
    from mixture.tokens.backend_huggingface import open_huggingface

    return open_huggingface(spec, data)


#: Kind of vocabulary → how to open it.
BACKENDS: Mapping[str, Callable[[TokenizerSpec, Place], Backend]] = {
    "tiktoken": _tiktoken,
    "sentencepiece": _sentencepiece,
    "huggingface": _huggingface,
    "bytes": lambda _spec, _data: Bytes(),
}
