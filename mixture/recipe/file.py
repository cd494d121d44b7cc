"""A recipe file: YAML in, a checked recipe out, or one sentence that names the file, the line and the field."""

from __future__ import annotations

import re

from mixture.errors import RecipeError
from mixture.recipe import Recipe
from mixture.storage import Place
from mixture.yamlfile import Form

FORM = Form(Recipe, "recipe", RecipeError, "`mixture init` writes one")

#: How the lock of a recipe ends, a pilot's too.
_LOCK = re.compile(r"(\.scale-[0-9.-]+(-matched)?)?\.lock\.json$")


def load(path: Place) -> Recipe:
    """Read and check a recipe file.

    Raises:
        RecipeError: missing, not YAML, or not a recipe; names the line, the field, the value and what is allowed.
    """
    if _LOCK.search(path.name):
        raise RecipeError(f"{path}: a lock; name its recipe, {path.with_name(_LOCK.sub('.yaml', path.name))}")
    return FORM.load(path)


def parse(text: str, where: str = "recipe") -> Recipe:
    """Check a recipe given as YAML text; see `load`."""
    return FORM.parse(text, where)
