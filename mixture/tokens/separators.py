"""What is written around each document, and between the parts of a knotted one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mixture.errors import TokenizerError
from mixture.pack.layout import Knots
from mixture.recipe.packing import Utk
from mixture.recipe.sources import Separator
from mixture.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Frame:
    """Token ids before and after each document."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def size(self) -> int:
        """Tokens that a document gains."""
        return len(self.prefix) + len(self.suffix)


def frame(tokenizer: Tokenizer, separator: Separator) -> Frame:
    """Return the ids that a recipe's separator stands for.

    Raises:
        TokenizerError: the vocabulary has no such token.
    """
    if separator.text is not None:
        return Frame((), tuple(tokenizer.encode_text(separator.text).tolist()))
    prefix = (_id(tokenizer, "bos", tokenizer.bos_id),) if "bos" in separator.token else ()
    suffix = (_id(tokenizer, "eos", tokenizer.eos_id),) if "eos" in separator.token else ()
    return Frame(prefix, suffix)


def _id(tokenizer: Tokenizer, name: str, value: int | None) -> int:
    if value is None:
        raise TokenizerError(
            f"{tokenizer.name} has no {name} token for sequence.separator; name one with tokenizer.{name}, or use "
            "another separator: eos, bos, none, or {text: …}"
        )
    return value


def knots(tokenizer: Tokenizer, rule: Utk) -> Knots:
    """Return the ids of the marks that Untie the Knots writes.

    Where the recipe names none they are the first ids after the vocabulary: a model that trains on them needs as many
    more rows in its embedding.

    Raises:
        TokenizerError: the vocabulary has no token of a given name.
    """
    reserved = iter(range(tokenizer.n_vocab, tokenizer.n_vocab + 2 + (rule.trace or 0)))
    head, tail = (_mark(tokenizer, name, getattr(rule, name), reserved) for name in ("head", "tail"))
    return Knots(head, tail, None if rule.trace is None else (next(reserved), rule.trace))


def _mark(tokenizer: Tokenizer, name: str, value: str | int | None, reserved: Iterator[int]) -> int:
    if value is None:
        return next(reserved)
    found = tokenizer.backend.token_id(value) if isinstance(value, str) else value
    if found is None or not 0 <= found < 1 << 31:
        known = ", ".join(tokenizer.backend.specials[:8]) or "none"
        raise TokenizerError(
            f"transforms.utk.{name}: {tokenizer.name} has no token {value!r}; give a token's name (special ones: "
            f"{known}), an id, or nothing for an id after the vocabulary"
        )
    return found
