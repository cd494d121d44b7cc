"""Stands in for the module kenlm: each word costs its length, each line's end 1, in log10."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType

import pytest


class Config:
    show_progress = True


class Model:
    def __init__(self, path: str, config: Config) -> None:
        assert not config.show_progress
        if not Path(path).read_bytes().startswith(b"model"):
            raise OSError(f"Cannot read model '{path}'\n(no magic)")

    def score(self, line: bytes) -> float:
        return -float(sum(map(len, line.split())) + 1)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("kenlm")
    module.Config, module.Model = Config, Model  # type: ignore[attr-defined]
    module.__spec__ = importlib.machinery.ModuleSpec("kenlm", None)
    monkeypatch.setitem(sys.modules, "kenlm", module)


def remove(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the module, also where it is installed."""
    monkeypatch.setattr("mixture.scores.perplexity.find_spec", lambda _: None)
