"""A recipe file: YAML in, a checked recipe out, or one sentence that names the file, the line and the field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mixture.errors import RecipeError, nearest
from mixture.recipe import Recipe

_TYPES = ("constrained-float", "constrained-str", "float", "int", "str")
#: How the lock of a recipe ends, a pilot's too.
_LOCK = re.compile(r"(\.scale-[0-9.-]+(-matched)?)?\.lock\.json$")
#: Words of the library that checks, and what they are in a recipe.
_OURS = {
    "a valid tuple": "a list in brackets",
    r"a valid dictionary or instance of \w+": "a mapping of keys to values",
    "Tuple should have (.*) after validation": r"The list should have \1",
}
#: Where each key and value of the file stands.
Lines = dict[tuple[str | int, ...], int]


def load(path: Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        RecipeError: missing, not YAML, or not a recipe; names the line, the field, the value and what is allowed.
    """
    if _LOCK.search(path.name):
        raise RecipeError(f"{path}: a lock; name its recipe, {path.with_name(_LOCK.sub('.yaml', path.name))}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(_missing(path)) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text ({error}); give a recipe, `mixture init` writes one") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); give a recipe file that you may read") from error
    return parse(text, str(path))


def parse(text: str, where: str = "recipe") -> Recipe:
    """Check a recipe given as YAML text; see `load`."""
    lines: Lines = {}
    try:
        value = _read_yaml(text, lines, where)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise RecipeError(f"{where}, line {line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:
        # Dates that no calendar has, numbers of thousands of digits.
        raise RecipeError(f"{where}: not valid YAML: {error}") from error
    except RecursionError:
        raise RecipeError(f"{where}: a value holds itself, or is nested too deep; write it out") from None
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise RecipeError(_sentence(error, lines, where)) from error


def _read_yaml(text: str, lines: Lines, where: str) -> object:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(f"{where}: a recipe is a mapping of keys to values; `mixture init` writes one to start from")
    _mark(root, (), lines, where)
    return yaml.safe_load(text)


def _missing(path: Path) -> str:
    import difflib

    folder = path.parent
    known = [str(p) for p in folder.glob("*.y*ml")] if folder.is_dir() else []
    close = difflib.get_close_matches(str(path), known, n=1)
    hint = f"did you mean {close[0]}?" if close else "write one with `mixture init`"
    return f"{path}: no such recipe; {hint}"


def _mark(node: yaml.Node, at: tuple[str | int, ...], lines: Lines, where: str) -> None:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            key = str(key_node.value)
            here = (*at, key)
            line = key_node.start_mark.line + 1
            if here in lines:
                raise RecipeError(f"{where}, line {line}: {key!r} is given twice (first on line {lines[here]})")
            lines[here] = line
            _mark(value, here, lines, where)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _mark(item, (*at, number), lines, where)


def _sentence(error: ValidationError, lines: Lines, where: str) -> str:
    problems = error.errors()
    # "natural, or a mapping" reports on both branches; the one that was meant says what is wrong. And a misspelt key
    # explains the key that is then missing, so it goes first.
    meant = [p for p in problems if "literal['natural']" not in p["loc"]] or problems
    first = min(meant, key=lambda p: p["type"] != "extra_forbidden")
    # Names of types, where several are allowed, are none of the user's.
    loc = tuple(part for part in first["loc"] if not (isinstance(part, str) and ("[" in part or part in _TYPES)))
    kind, value = first["type"], first["input"]
    message = first["msg"].removeprefix("Value error, ")
    for words, ours in _OURS.items():
        message = re.sub(words, ours, message)
    # A check over several fields names the one to mend at the start of its message.
    named = re.match(r"([\w.]+): ", message)
    if named and (*loc, *named[1].split(".")) in lines:
        loc, message = (*loc, *named[1].split(".")), message[named.end() :]
    at = loc
    while at and at not in lines:
        at = at[:-1]
    place = f"{where}, line {lines.get(at, 1)}"
    # A plain value may stand for a mapping with one key, which is then in no line.
    field = ".".join(map(str, loc if kind in ("missing", "extra_forbidden", "value_error") else at or loc))
    if kind == "extra_forbidden":
        return f"{place}: {loc[-1]!r} is not a key of {_parent(loc)}; {nearest(str(loc[-1]), _keys(loc[:-1]))}"
    if kind == "missing":
        return f"{place}: {field} is missing: {_describe(loc)}"
    shown = repr(value) if isinstance(value, (str, int, float, bool)) or value is None else ""
    prefix = f"{field}: " if field else ""
    got = f", not {shown}" if shown and kind != "value_error" else ""
    return f"{place}: {prefix}{message[:1].lower()}{message[1:]}{got}"


def _parent(loc: tuple[str | int, ...]) -> str:
    return ".".join(map(str, loc[:-1])) or "a recipe"


def _model_at(loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Find the model that sits at a place of the recipe, through optional, list and mapping types."""
    model: type[BaseModel] = Recipe
    for part in loc:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        inner = _inner_model(model.model_fields[part].annotation)
        if inner is None:
            return None
        model = inner
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None


def _keys(loc: tuple[str | int, ...]) -> list[str]:
    model = _model_at(loc)
    return sorted(model.model_fields) if model else []


def _describe(loc: tuple[str | int, ...]) -> str:
    model = _model_at(loc[:-1])
    field = model.model_fields.get(str(loc[-1])) if model else None
    return (field.description if field else None) or "there is no default"
