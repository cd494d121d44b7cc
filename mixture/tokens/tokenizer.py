"""Text to tokens and back: the front door.

    tokenizer = load(spec, data)
    tokens, offsets = tokenizer.encode(texts)      document i is tokens[offsets[i] : offsets[i + 1]]

Each vocabulary has a reference (tiktoken, sentencepiece, tokenizers) that is right by definition, and, where it proves
equal on a hard set of strings, the fast engine in its place. Separators are never added here, and text that looks like
a special token stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from mixture.errors import TokenizerError
from mixture.hashing import U64
from mixture.recipe.sources import TokenizerSpec
from mixture.storage import Place
from mixture.tokens import hard, parity
from mixture.tokens.backends import BACKENDS, I64, U32, Backend, Panic, Unsupported, no_panic, version
from mixture.tokens.engine import Engine
from mixture.tokens.parity import Proof
from mixture.tokens.routing import Routed, is_unsettled
from mixture.tokens.seams import encode_long

Choice = Literal["auto", "reference"]


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary, ready to use in this process; cheap to load again in another.

    Attributes:
        bos_id: opening separator, or None.
        eos_id: closing separator, or None.
        proof: what is known of the fast engine.
        backend: the reference.
        fast: the engine where it proved equal, else None.
    """

    bos_id: int | None
    eos_id: int | None
    proof: Proof
    backend: Backend
    fast: Engine | Routed | None

    @property
    def name(self) -> str:
        """What people call the vocabulary."""
        return self.backend.name

    @property
    def fingerprint(self) -> str:
        """32 hex digits of the vocabulary's content, whatever its file is called."""
        return self.backend.fingerprint

    @property
    def n_vocab(self) -> int:
        """1 + the largest id, specials included."""
        return self.backend.n_vocab

    @property
    def engine(self) -> str:
        """What does the work: `gigatoken 0.10.0`, or `reference`."""
        return self.proof.engine if self.fast is not None else "reference"

    @property
    def notice(self) -> str | None:
        """One sentence on why the reference does the work although the engine was wanted, or None."""
        return self.proof.reason or None

    def encode(self, texts: Sequence[bytes]) -> tuple[U32, I64]:
        """Return flat tokens, shape (tokens,), and offsets, shape (n+1,), of n documents.

        Args:
            texts: valid UTF-8.

        Raises:
            TokenizerError: the reference gives up on a document.
        """
        return (self.fast or self.backend).encode(texts)

    def encode_text(self, text: str) -> U32:
        """Return the tokens of one text, shape (tokens,)."""
        if self.fast is not None:
            return self.fast.encode_text(text)
        return _whole(self.backend, text)

    def decode(self, tokens: U32 | list[int]) -> str:
        """Return the text of tokens; bytes that are not UTF-8 become U+FFFD."""
        return self.backend.decode(np.asarray(tokens).tolist())

    def check(self, texts: Sequence[bytes], hi: U64, lo: U64) -> int:
        """Compare engine and reference on slices of some of these documents; return how many were compared.

        Args:
            texts: n documents, as for `encode`.
            hi: leading 64 bits of their ids, shape (n,).
            lo: trailing 64 bits, shape (n,).

        Raises:
            EngineMismatchError: they disagree.
        """
        fast = self.fast
        if fast is None:
            return 0
        slices = parity.sample(texts, hi, lo)
        names = (self.proof.engine, self.backend.library)
        return parity.check(slices, fast.encode, self.backend.encode_text, names)


def load(spec: TokenizerSpec, data: Place, *, engine: Choice = "auto") -> Tokenizer:
    """Load a vocabulary, and the fast engine where it proves equal to the reference.

    Args:
        spec: which vocabulary.
        data: the data root, which `spec.path` is relative to.
        engine: `reference` leaves the fast engine out.

    Raises:
        TokenizerError: the vocabulary is missing, is not one, or lacks a separator that the recipe names.
    """
    backend = BACKENDS[spec.kind](spec, data)
    fast, proof = prove(backend) if engine == "auto" and spec.kind != "bytes" else (None, Proof("none", "not wanted"))
    return Tokenizer(
        bos_id=_separator(backend, "bos", spec.bos, backend.bos_id),
        eos_id=_separator(backend, "eos", spec.eos, backend.eos_id),
        proof=proof,
        backend=backend,
        fast=fast,
    )


def prove(backend: Backend) -> tuple[Engine | Routed | None, Proof]:
    """Build the fast engine for a vocabulary and try it on the hard set; None where it does not pass."""
    name = f"gigatoken {version('gigatoken')}"
    tail = f"using the reference, about {backend.slower}× slower"
    every = hard.strings((*backend.specials[:16], *backend.added[:16]))
    tried = [text for text in every if not (backend.by_class and is_unsettled(text))]
    try:
        with no_panic():
            engine = Engine(backend.build_engine)
            unequal = parity.differing(tried, engine.encode, backend.encode_text)
    except Unsupported as error:
        return None, Proof(name, "unavailable", reason=f"{error}; {tail}")
    except (ImportError, AttributeError, RuntimeError, ValueError, Panic) as error:
        return None, Proof(name, "unavailable", reason=f"{name} cannot take {backend.name} ({error}); {tail}")
    if not unequal:
        proof = Proof(name, "equal", len(tried), routed=len(every) - len(tried))
        return (Routed(engine, partial(_whole, backend)) if backend.by_class else engine), proof
    reason = (
        f"{name} differs from {backend.library} on {len(unequal)} of {len(tried)} hard strings, first "
        f"{unequal[0][:40]!r}; {tail}"
    )
    return None, Proof(name, "differs", len(tried), len(unequal), reason=reason)


def _whole(backend: Backend, text: str) -> U32:
    return encode_long(text, backend.cuts, backend.encode_text)


def _separator(backend: Backend, which: str, wanted: str | int | None, own: int | None) -> int | None:
    if wanted is None:
        return own
    found = backend.token_id(wanted) if isinstance(wanted, str) else wanted
    if found is None:
        known = ", ".join(backend.specials[:8]) or "none"
        raise TokenizerError(
            f"tokenizer.{which}: {backend.name} has no token {wanted!r}; give a token's name or id "
            f"(special ones: {known})"
        )
    if not 0 <= found < backend.n_vocab:
        raise TokenizerError(
            f"tokenizer.{which}: {found} is not an id of {backend.name}, which has 0 … {backend.n_vocab - 1:,}"
        )
    return found
