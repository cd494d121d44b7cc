"""SentencePiece models, and the same model as the fast engine's input.

A `.model` file is one protobuf message: pieces (content, score, type), the trainer's settings, the normaliser's. Only
what decides about tokens enters the fingerprint: where the model was trained, and on which files, does not.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import xxhash

from mixture.errors import TokenizerError
from mixture.hashing import fingerprint
from mixture.storage import Place
from mixture.tokens.backends import Backend, Unsupported, read_vocabulary
from mixture.tokens.seams import PREFIXED_WORD, WORD, Cut

# Numbers of fields and values in SentencePiece's protobuf schema.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_CONTENT, _SCORE, _TYPE = 1, 2, 3
_MODEL_TYPE, _SPACE_AS_SUFFIX, _BYTE_FALLBACK, _UNKNOWN_PIECE = 3, 24, 35, 45
_CHARACTER_MAP, _DUMMY_PREFIX, _TRIM_SPACES, _ESCAPE_SPACES = 2, 3, 4, 5
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_UNIGRAM, _BPE = 1, 2
_SPACE = "▁"

Message = dict[int, "int | bytes"]


@dataclass(frozen=True)
class Model:
    """What a `.model` file says.

    Attributes:
        pieces: content, score and type of each piece, by id.
        trainer: the trainer's settings, by field number.
        normalizer: the normaliser's.
    """

    pieces: tuple[tuple[str, float, int], ...]
    trainer: Message
    normalizer: Message

    def flag(self, part: Message, field: int, *, default: bool) -> bool:
        """Return a true-or-false setting."""
        return bool(part.get(field, default))

    @property
    def dummy_prefix(self) -> bool:
        """Whether a space is put before every text."""
        return self.flag(self.normalizer, _DUMMY_PREFIX, default=True)

    @property
    def crosses_words(self) -> bool:
        """Whether a piece reaches over a space into the next word, so that no space is a safe seam."""
        return any(_SPACE in content.lstrip(_SPACE) for content, _, kind in self.pieces if kind == _NORMAL)


def parse(content: bytes) -> Model:
    """Read a `.model` file's bytes.

    Raises:
        ValueError: they are no SentencePiece model.
    """
    pieces: list[tuple[str, float, int]] = []
    parts: dict[int, Message] = {_TRAINER: {}, _NORMALIZER: {}}
    try:
        for field, value in _fields(content):
            if field == _PIECES:
                pieces.append(_piece(dict(_fields(_bytes(value)))))
            elif field in parts:
                parts[field] = dict(_fields(_bytes(value)))
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("not a protobuf message") from error
    if not pieces:
        raise ValueError("it holds no pieces")
    return Model(tuple(pieces), parts[_TRAINER], parts[_NORMALIZER])


def _piece(message: Message) -> tuple[str, float, int]:
    content = _bytes(message.get(_CONTENT, b"")).decode()
    (score,) = struct.unpack("<f", _bytes(message.get(_SCORE, bytes(4))))
    kind = message.get(_TYPE, _NORMAL)
    return content, score, kind if isinstance(kind, int) else _NORMAL


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a field has the wrong type")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a protobuf message: number and value, an integer or bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} is unknown")
        if at + size > len(message):
            raise ValueError("it ends in the middle of a field")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


class SentencePiece(Backend):
    """A SentencePiece model.

    Raises:
        TokenizerError: the file is missing, or is not a SentencePiece model.
    """

    library = "sentencepiece"
    slower = 15
    by_class = False

    def __init__(self, path: Place) -> None:
        import sentencepiece

        content = read_vocabulary(path, "SentencePiece model")
        try:
            self._model = parse(content)
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        except (ValueError, RuntimeError) as error:
            raise TokenizerError(f"{path}: not a SentencePiece model ({error}); give a .model file") from error
        self.name = path.name.removesuffix(".model").removesuffix(".sentencepiece")
        self.n_vocab = len(self._model.pieces)
        self.bos_id = _id_or_none(self._processor.bos_id())
        self.eos_id = _id_or_none(self._processor.eos_id())
        self.specials = tuple(text for text, _, kind in self._model.pieces if kind == _CONTROL)
        self.cuts = _cuts(self._model)
        self.fingerprint = _fingerprint(self._model, self.bos_id, self.eos_id)

    def encode_text(self, text: str) -> list[int]:
        """Return the tokens of one text; control symbols in it are ordinary characters."""
        tokens: list[int] = self._processor.encode(text)
        return tokens

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens; control tokens have none."""
        return str(self._processor.decode(tokens))

    def token_id(self, name: str) -> int | None:
        """Return the id of a piece, spelt as in the model (▁ for a space)."""
        return next((i for i, (content, _, _) in enumerate(self._model.pieces) if content == name), None)

    def build_engine(self) -> Any:
        """Return gigatoken's engine over the same pieces and scores.

        Raises:
            Unsupported: not a byte-level-fallback BPE model.
        """
        import gigatoken

        try:
            return gigatoken.Tokenizer.from_json(engine_json(self._model)).backend
        except (ValueError, KeyError, RuntimeError) as error:
            raise Unsupported(f"gigatoken cannot take {self.name} ({error})") from error


def _id_or_none(value: int) -> int | None:
    return value if value >= 0 else None


def _cuts(model: Model) -> tuple[Cut, ...]:
    if model.crosses_words or model.flag(model.trainer, _SPACE_AS_SUFFIX, default=False):
        return ()
    return (PREFIXED_WORD,) if model.dummy_prefix else (WORD,)


def _fingerprint(model: Model, bos: int | None, eos: int | None) -> str:
    state = xxhash.xxh3_128()
    for content, score, kind in model.pieces:
        raw = content.encode()
        state.update(struct.pack("<IfB", len(raw), score, kind) + raw)
    character_map = model.normalizer.get(_CHARACTER_MAP, b"")
    flags = [(model.normalizer, field, True) for field in (_DUMMY_PREFIX, _TRIM_SPACES, _ESCAPE_SPACES)]
    flags += [(model.trainer, field, False) for field in (_SPACE_AS_SUFFIX, _BYTE_FALLBACK)]
    return fingerprint(
        {
            "kind": "sentencepiece",
            "pieces": state.hexdigest(),
            "model": model.trainer.get(_MODEL_TYPE, _UNIGRAM),
            "characters": xxhash.xxh3_128_hexdigest(_bytes(character_map)),
            "flags": [model.flag(part, field, default=default) for part, field, default in flags],
            "specials": [bos, eos],
        }
    )


def engine_json(model: Model) -> str:
    """Return the tokenizer.json that says the same, for the fast engine.

    SentencePiece joins the pair whose joint piece has the best score; as merge rules, every cut of a piece into two
    pieces is a rule, in the order of the scores. Only ordinary pieces take part: a merge rule for `<s>` or `<0x41>`
    would let a text forge a separator.

    Raises:
        Unsupported: the engine has no such model.
    """
    _check_engine(model)
    normalizers: list[dict[str, Any]] = []
    if character_map := _bytes(model.normalizer.get(_CHARACTER_MAP, b"")):
        coded = base64.b64encode(character_map).decode()
        normalizers.append({"type": "Precompiled", "precompiled_charsmap": coded})
    if model.dummy_prefix:
        normalizers.append({"type": "Prepend", "prepend": _SPACE})
    normalizers.append({"type": "Replace", "pattern": {"String": " "}, "content": _SPACE})
    ids = {content: i for i, (content, _, _) in enumerate(model.pieces)}
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [],
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "BPE",
                "unk_token": _bytes(model.trainer.get(_UNKNOWN_PIECE, b"<unk>")).decode(),
                "fuse_unk": True,
                "byte_fallback": True,
                "ignore_merges": False,
                "vocab": ids,
                "merges": _merges(model),
            },
        },
        ensure_ascii=False,
    )


def _check_engine(model: Model) -> None:
    kinds = {kind for _, _, kind in model.pieces}
    reasons = {
        "it is not a BPE model": model.trainer.get(_MODEL_TYPE, _UNIGRAM) != _BPE,
        "it has no byte fallback": not model.flag(model.trainer, _BYTE_FALLBACK, default=False),
        "it keeps spaces as they are": not model.flag(model.normalizer, _ESCAPE_SPACES, default=True),
        "it puts spaces after words": model.flag(model.trainer, _SPACE_AS_SUFFIX, default=False),
        "it removes extra spaces": model.flag(model.normalizer, _TRIM_SPACES, default=True),
        "it has user-defined pieces": _USER_DEFINED in kinds,
        "it has unused pieces": _UNUSED in kinds,
    }
    for reason, holds in reasons.items():
        if holds:
            raise Unsupported(f"gigatoken cannot stand in for this SentencePiece model ({reason})")


def _merges(model: Model) -> list[tuple[str, str]]:
    scores = {content: score for content, score, kind in model.pieces if kind == _NORMAL}
    rules = [
        (-score, -cut, content)
        for content, score in scores.items()
        for cut in range(1, len(content))
        if content[:cut] in scores and content[cut:] in scores
    ]
    return [(content[:-minus_cut], content[-minus_cut:]) for _, minus_cut, content in sorted(rules)]
