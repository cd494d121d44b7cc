"""A YAML file that people write: a checked value comes out, or one sentence that names file, line and field.

What is in such a file is a pydantic model's matter; what it is called, and how one comes by it, is a `Form`'s:

    RECIPES = Form(Recipe, "recipe", RecipeError, "`mixture init` writes one")

    budjet: 5M        ─▶  mine.yaml, line 1: 'budjet' is not a key of a recipe; did you mean 'budget'?
    budget: 5X        ─▶  mine.yaml, line 1: budget: '5X' is not a number of tokens; write it as …
    name: mine …      ─▶  Recipe(name='mine', …)

Numbers are read as in YAML 1.2: `12:30:00` stays text, and is not 45,000.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mixture.errors import MixtureError, nearest
from mixture.storage import Place, refusals

M = TypeVar("M", bound=BaseModel)
#: Where a value stands in a file: keys and numbers of list items, outermost first.
Loc = tuple[str | int, ...]
#: Where each key and value of a file stands, counted from 1.
Lines = dict[Loc, int]

_TYPES = ("constrained-float", "constrained-str", "float", "int", "str")
#: Words of the library that checks, and what they are in a file.
_OURS = {
    "a valid tuple": "a list in brackets",
    r"a valid dictionary or instance of \w+": "a mapping of keys to values",
    "a valid dictionary": "a mapping of keys to values",
    "Tuple should have (.*) after validation": r"The list should have \1",
}


@dataclass(frozen=True)
class Form(Generic[M]):
    """One kind of file.

    Attributes:
        model: what its content must be.
        noun: what people call it.
        error: what is raised.
        start: how to come by one, as half a sentence: "`mixture init` writes one".
    """

    model: type[M]
    noun: str
    error: type[MixtureError]
    start: str

    def load(self, path: Place) -> M:
        """Read and check a file.

        Raises:
            MixtureError: of the form's class: missing, not YAML, or not what it should be; names the line, the field,
                the value and what is allowed.
            StoreError: an object store does not give it.
        """
        try:
            with contextlib.nullcontext() if isinstance(path, Path) else refusals(path):
                text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise self.error(self._missing(path)) from None
        except UnicodeDecodeError as error:
            raise self.error(f"{path}: not UTF-8 text ({error}); give a {self.noun}, {self.start}") from error
        except OSError as error:
            raise self.error(
                f"{path}: cannot be read ({error.strerror}); give a {self.noun} file that you may read"
            ) from error
        return self.parse(text, str(path))

    def parse(self, text: str, where: str) -> M:
        """Check YAML text; `where` names it in errors. See `load`."""
        lines: Lines = {}
        value = self._read_yaml(text, lines, where)
        try:
            return self.model.model_validate(value)
        except ValidationError as error:
            raise self.error(self._sentence(error, lines, where)) from error

    def _read_yaml(self, text: str, lines: Lines, where: str) -> object:
        try:
            root = yaml.compose(text, Loader=_Loader)
            if not isinstance(root, yaml.MappingNode):
                raise self.error(f"{where}: a {self.noun} is a mapping of keys to values; {self.start} to start from")
            self._mark(root, (), lines, where)
            return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else "?"
            raise self.error(f"{where}, line {line}: not valid YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise self.error(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
        except ValueError as error:
            # Dates that no calendar has, numbers of thousands of digits.
            raise self.error(f"{where}: not valid YAML: {error}") from error
        except RecursionError:
            raise self.error(f"{where}: a value holds itself, or is nested too deep; write it out") from None

    def _missing(self, path: Place) -> str:
        folder = path.parent
        known = [str(p) for p in folder.glob("*.y*ml")] if folder.is_dir() else []
        close = difflib.get_close_matches(str(path), known, n=1)
        return f"{path}: no such {self.noun}; " + (f"did you mean {close[0]}?" if close else self.start)

    def _mark(self, node: yaml.Node, at: Loc, lines: Lines, where: str) -> None:
        lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key_node, value in node.value:
                key = str(key_node.value)
                here = (*at, key)
                line = key_node.start_mark.line + 1
                if here in lines:
                    raise self.error(f"{where}, line {line}: {key!r} is given twice (first on line {lines[here]})")
                lines[here] = line
                self._mark(value, here, lines, where)
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self._mark(item, (*at, number), lines, where)

    def _sentence(self, error: ValidationError, lines: Lines, where: str) -> str:
        first = _first(error)
        # Names of types, where several are allowed, are none of the user's.
        loc = tuple(part for part in first["loc"] if not (isinstance(part, str) and ("[" in part or part in _TYPES)))
        kind, value = first["type"], first["input"]
        message = first["msg"].removeprefix("Value error, ")
        for words, ours in _OURS.items():
            message = re.sub(words, ours, message)
        # A check over several fields names the one to mend at the start of its message.
        named = re.match(r"([\w.-]+): ", message)
        if named and (*loc, *named[1].split(".")) in lines:
            loc, message = (*loc, *named[1].split(".")), message[named.end() :]
        at = loc
        while at and at not in lines:
            at = at[:-1]
        place = f"{where}, line {lines.get(at, 1)}"
        # A plain value may stand for a mapping with one key, which is then in no line.
        field = ".".join(map(str, loc if kind in ("missing", "extra_forbidden", "value_error") else at or loc))
        if kind == "extra_forbidden":
            parent = ".".join(map(str, loc[:-1])) or f"a {self.noun}"
            return f"{place}: {loc[-1]!r} is not a key of {parent}; {nearest(str(loc[-1]), self._keys(loc[:-1]))}"
        if kind == "missing":
            return f"{place}: {field} is missing: {self._describe(loc)}"
        shown = repr(value) if isinstance(value, (str, int, float, bool)) or value is None else ""
        prefix = f"{field}: " if field else ""
        got = f", not {shown}" if shown and kind != "value_error" else ""
        return f"{place}: {prefix}{message[:1].lower()}{message[1:]}{got}"

    def _model_at(self, loc: Loc) -> type[BaseModel] | None:
        """Find the model that sits at a place of the file, through optional, list and mapping types."""
        model: type[BaseModel] = self.model
        free = False
        for part in loc:
            # The keys of a free mapping are the user's own; they may be called as our fields are.
            if free or isinstance(part, int) or part not in model.model_fields:
                free = False
                continue
            annotation = model.model_fields[part].annotation
            inner = _inner_model(annotation)
            if inner is None:
                return None
            model, free = inner, _is_mapping(annotation)
        return model

    def _keys(self, loc: Loc) -> list[str]:
        model = self._model_at(loc)
        return sorted(model.model_fields) if model else []

    def _describe(self, loc: Loc) -> str:
        model = self._model_at(loc[:-1])
        field = model.model_fields.get(str(loc[-1])) if model else None
        return (field.description if field else None) or "there is no default"


class _Loader(yaml.SafeLoader):
    """Plain YAML, but `1:30` is text: numbers to the base of sixty are left to YAML 1.1."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: object) -> str:
        """Say what a plain scalar is."""
        tag = str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]
        return "tag:yaml.org,2002:str" if tag in _NUMBERS and ":" in value else tag


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def _first(error: ValidationError) -> Any:
    """Choose the fault to tell.

    "natural, or a mapping" reports on both branches; the one that was meant says what is wrong. And a misspelt key
    explains the key that is then missing, so it goes first.
    """
    problems = error.errors()
    meant = [p for p in problems if not any(str(part).startswith("literal[") for part in p["loc"])] or problems
    return min(meant, key=lambda p: p["type"] != "extra_forbidden")


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return True
    return any(_is_mapping(argument) for argument in get_args(annotation))
