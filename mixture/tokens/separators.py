"""What is written around each document."""

from __future__ import annotations

from dataclasses import dataclass

from mixture.errors import TokenizerError
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
