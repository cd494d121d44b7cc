"""Hugging Face `tokenizer.json` files, local or from the hub.

The file's model, normaliser, pre-tokenizer and added tokens are used; its post-processor (which adds separators),
truncation and padding are not. Added tokens marked special are never matched in a text; the others are vocabulary.
"""

from __future__ import annotations

import json
from typing import Any

from mixture.errors import TokenizerError
from mixture.hashing import fingerprint
from mixture.recipe.sources import TokenizerSpec
from mixture.storage import Place, as_place, exists
from mixture.tokens.backends import MAX_VOCAB, Backend, Unsupported, read_vocabulary
from mixture.tokens.seams import LINE, PREFIXED_WORD, WORD

#: Names that separators go by, likeliest first, for files without a tokenizer_config.json beside them.
BOS_NAMES = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<｜begin▁of▁sentence｜>", "[BOS]")  # noqa: RUF001
EOS_NAMES = (
    "</s>",
    "<eos>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<｜end▁of▁sentence｜>",  # noqa: RUF001
    "<|im_end|>",
    "[EOS]",
)

#: Parts of the file that decide about the tokens of a text.
_PARTS = ("added_tokens", "normalizer", "pre_tokenizer", "model")


class HuggingFace(Backend):
    """A tokenizer.json.

    Args:
        name: what people call it.
        content: the file's bytes.
        config: the tokenizer_config.json beside it, or nothing.
        where: the file, for messages.

    Raises:
        TokenizerError: it is not a tokenizer.json.
    """

    library = "tokenizers"
    slower = 20
    cuts = (LINE, PREFIXED_WORD, WORD)

    def __init__(self, name: str, content: bytes, config: dict[str, Any], where: str) -> None:
        import tokenizers

        try:
            self._json: dict[str, Any] = json.loads(content)
            self._tokenizer = tokenizers.Tokenizer.from_str(content.decode())
        except Exception as error:
            # tokenizers raises a bare Exception for whatever it cannot read.
            raise TokenizerError(f"{where}: not a tokenizer.json ({_short(error)}); give a Hugging Face one") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self.name = name
        self._added: list[dict[str, Any]] = self._json.get("added_tokens") or []
        self.specials = tuple(str(token["content"]) for token in self._added if token.get("special"))
        self.added = tuple(str(token["content"]) for token in self._added if not token.get("special"))
        self.n_vocab = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if not 0 < self.n_vocab <= MAX_VOCAB:
            raise TokenizerError(
                f"{where}: {self.n_vocab:,} tokens do not fit ids of 32 bits; give another tokenizer.json"
            )
        self.bos_id = self._separator(config.get("bos_token"), BOS_NAMES)
        self.eos_id = self._separator(config.get("eos_token"), EOS_NAMES)
        self.fingerprint = fingerprint({"kind": "huggingface", **{part: self._json.get(part) for part in _PARTS}})

    def _separator(self, configured: object, names: tuple[str, ...]) -> int | None:
        if isinstance(configured, dict):
            configured = configured.get("content")
        if isinstance(configured, str) and (found := self.token_id(configured)) is not None:
            return found
        added = {str(token["content"]): int(token["id"]) for token in self._added}
        return next((added[name] for name in names if name in added), None)

    def encode_text(self, text: str) -> list[int]:
        """Return the tokens of one text, without the post-processor's separators."""
        ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens; special tokens by their names."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))

    def token_id(self, name: str) -> int | None:
        """Return the id of a token, spelt as in the file."""
        found: int | None = self._tokenizer.token_to_id(name)
        return found

    def build_engine(self) -> Any:
        """Return gigatoken's engine over the same file, its special tokens and separators taken out.

        Raises:
            Unsupported: gigatoken knows no such model, normaliser or pre-tokenizer.
        """
        import gigatoken

        plain = {part: self._json.get(part) for part in ("version", *_PARTS)}
        plain["added_tokens"] = [token for token in self._added if not token.get("special")]
        try:
            return gigatoken.Tokenizer.from_json(json.dumps(plain, ensure_ascii=False)).backend
        except (ValueError, KeyError, RuntimeError) as error:
            raise Unsupported(f"gigatoken cannot take {self.name} ({_short(error)})") from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def open_huggingface(spec: TokenizerSpec, data: Place) -> HuggingFace:
    """Open a local tokenizer.json (or the folder that holds one), or a hub id at a revision.

    Raises:
        TokenizerError: no such file, not a tokenizer.json, or no network.
    """
    if spec.path is not None:
        path = data / spec.path
        path = path / "tokenizer.json" if path.is_dir() else path
        name = path.parent.name if path.name == "tokenizer.json" else path.stem
        config = path.with_name("tokenizer_config.json")
        return _open(name, path, config if exists(config) else None)
    name = spec.name or ""
    return _open(name, _download(spec, "tokenizer.json", required=True), _download(spec, "tokenizer_config.json"))


def _open(name: str, path: Place | None, config: Place | None) -> HuggingFace:
    if path is None:
        raise TokenizerError(f"tokenizer: {name!r} holds no tokenizer.json; give another tokenizer.name, or a path")
    settings: object = {}
    if config is not None:
        try:
            settings = json.loads(read_vocabulary(config, "tokenizer_config.json"))
        except ValueError as error:
            raise TokenizerError(f"{config}: not valid JSON ({error}); mend it or remove it") from error
    content = read_vocabulary(path, "tokenizer.json")
    return HuggingFace(name, content, settings if isinstance(settings, dict) else {}, str(path))


def _download(spec: TokenizerSpec, file: str, *, required: bool = False) -> Place | None:
    import huggingface_hub

    try:
        return as_place(huggingface_hub.hf_hub_download(str(spec.name), file, revision=spec.revision))
    except (OSError, ValueError) as error:
        if not required:
            return None
        raise TokenizerError(
            f"tokenizer: {spec.name!r} cannot be fetched from the hub ({_short(error)}); check the name and the "
            "network, or give tokenizer.path"
        ) from error
