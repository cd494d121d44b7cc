"""Train a vocabulary on the corpus itself: a SentencePiece BPE model that loses nothing of a text.

Identity normalisation, no dummy prefix, spaces kept, bytes for whatever has no piece: decoding gives the text back
(but for U+2581 "▁", SentencePiece's own sign for a space). Which stretches of text the model sees depends on the texts
alone: the same texts in another order give the same model.
"""

from __future__ import annotations

import heapq
import io
import re
from collections.abc import Iterable, Iterator

import xxhash

from mixture.errors import TokenizerError
from mixture.storage import Place, publish

#: Text is sampled by stretches of about so many characters, so that no long document speaks for the whole corpus.
_STRETCH = 4_096
#: SentencePiece leaves out longer sentences without a word; lines are folded at this many characters.
_LINE = 1_024
#: Bytes and control symbols, beside which the first pieces come.
_SMALLEST = 256 + 3 + 32


def train_sentencepiece(
    texts: Iterable[str], out: Place, *, vocab_size: int, sample_bytes: int = 20_000_000, seed: int = 0
) -> None:
    """Train a BPE model with byte fallback on a sample of texts, and publish it.

    Args:
        texts: documents; read once.
        out: the `.model` file to write.
        vocab_size: pieces, with the 256 bytes and <unk>, <s>, </s>.
        sample_bytes: UTF-8 bytes of text to learn from, at most; memory and time grow with it.
        seed: another seed takes another sample.

    Raises:
        TokenizerError: the texts are too few or too uniform for so many pieces.
        StoreError: the model cannot be written.
    """
    lines = list(_lines(_sample(texts, sample_bytes, seed)))
    if vocab_size < _SMALLEST:
        raise TokenizerError(
            f"a vocabulary of {vocab_size} pieces is too small; 256 are bytes, take {_SMALLEST} or more"
        )
    if not lines:
        raise TokenizerError("no text to train a vocabulary on; check the sources and their text field")
    model = _train(lines, vocab_size)
    with publish(out) as handle:
        handle.write(model)


def _train(lines: list[str], vocab_size: int) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            byte_fallback=True,
            character_coverage=0.9999,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,
            max_sentence_length=1 << 20,
            # Nothing but errors, which come as exceptions too.
            minloglevel=3,
        )
    except RuntimeError as error:
        raise TokenizerError(_too_small(str(error), lines, vocab_size)) from error
    return model.getvalue()


def _too_small(message: str, lines: list[str], vocab_size: int) -> str:
    size = sum(len(line.encode()) for line in lines)
    bound = re.search(r"value <= (\d+)", message)
    most = f"it yields at most {int(bound[1]):,}; " if bound else ""
    return (
        f"{size:,} bytes of text are too few, or too uniform, for a vocabulary of {vocab_size:,} pieces ({most}"
        "ask for fewer, or give more text)"
    )


def _sample(texts: Iterable[str], sample_bytes: int, seed: int) -> list[str]:
    """Return the stretches with the smallest hashes that fit into `sample_bytes`, in the order of their hashes."""
    kept: list[tuple[int, str]] = []
    size, bound = 0, 1 << 64
    for text in texts:
        for at in range(0, len(text), _STRETCH):
            raw = text[at : at + _STRETCH].encode()
            place = xxhash.xxh3_64_intdigest(raw, seed=seed)
            if place >= bound:
                continue
            # Negative, so that the heap's smallest, the first to go, is the largest hash.
            heapq.heappush(kept, (-place, raw.decode()))
            size += len(raw)
            while size > sample_bytes and len(kept) > 1:
                worst, gone = heapq.heappop(kept)
                size -= len(gone.encode())
                # What once fell out would not fit later either: without this the order of the texts would matter.
                bound = -worst
    return [text for _, text in sorted(kept, reverse=True)]


def _lines(stretches: Iterable[str]) -> Iterator[str]:
    """Yield lines as SentencePiece takes them: not too long, without tabs (its separator) and other controls."""
    for stretch in stretches:
        for line in re.split(r"[\x00-\x1f]+", stretch):
            for at in range(0, len(line), _LINE):
                yield line[at : at + _LINE]
