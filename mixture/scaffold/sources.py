"""Sources as a command line gives them, and as a recipe holds them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

FORMATS = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}
_COMPRESSIONS = (".gz", ".zst", ".zstd")


@dataclass(frozen=True)
class NamedPaths:
    """A source as given on the command line: `books=corpus/books-*.jsonl.zst`."""

    name: str
    pattern: str

    @property
    def format(self) -> str:
        """The format that the suffix tells; text if it tells none."""
        path = Path(self.pattern)
        if path.suffix in _COMPRESSIONS:
            path = path.with_suffix("")
        return FORMATS.get(path.suffix, "text")


def quoted(text: str) -> str:
    """Write a string as YAML takes it for one: plain where it is a plain word, else in quotes, as in JSON."""
    plain = re.fullmatch(r"[A-Za-z][\w./-]*", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def block(source: NamedPaths, domain: str, more: str = "") -> str:
    """Write a source.

    Args:
        source: its name and files.
        domain: as YAML; a block begins on a new line.
        more: further lines.
    """
    text = (
        ""
        if source.format == "text"
        else "    text: text                         # the field; dots reach into nested ones\n"
    )
    space = "" if domain.startswith("\n") else " "
    return (
        f"  - name: {quoted(source.name)}\n    format: {source.format}\n    paths: [{quoted(source.pattern)}]\n"
        f"{text}    domain:{space}{domain}\n{more}"
    )
