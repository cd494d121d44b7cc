"""How a recipe keeps out what a gate flags: the lines to write, and a word where it does not.

contamination flags 3 documents, the recipe says  where: n_tokens > 200
─▶  where: (n_tokens > 200) and contamination = 0
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from mixture.recipe import Recipe
from mixture.scores.findings import Findings

#: What YAML takes for a plain string, whatever is in it.
_PLAIN = re.compile(r"[A-Za-z(][\w .()<>=*/+'%-]*")


def sentence(recipe: Recipe, record: dict[str, Any]) -> str:
    """Return what to tell of a gate when a plan is made: what it flags, and whether the recipe asks for it.

    Args:
        recipe: its SQL counts.
        record: as `findings.with_flagged` returns it.
    """
    name, flagged = record["name"], record["flagged"].values()
    documents, tokens = (sum(count[key] for count in flagged) for key in ("documents", "tokens"))
    heeded = any(_asks_for(sql, name) for sql in (recipe.where, recipe.weight))
    move = "" if heeded or not documents else f"; nothing keeps them out: write `where: {name} = 0` into the recipe"
    return f"plan: {name}: {documents:,} documents of {tokens:,} tokens share n-grams with evaluation files{move}"


def advice(recipe: Recipe, found: Sequence[Findings]) -> list[str]:
    """Return the lines that make a recipe keep out what gates flag; none where it has them already.

    Args:
        recipe: as it stands.
        found: what was found, by the recipe's own gates or by others.
    """
    own = {score.name: (score.contamination, score.what()) for score in recipe.scores}
    lines = []
    for one in found:
        what = {key: one.record[key] for key in ("kind", "name", "ngram", "text")}
        if own.get(one.name) != (one.patterns, what):
            files = ", ".join(_quoted(pattern) for pattern in one.patterns)
            lines.append(
                f"scores: [{{contamination: [{files}], ngram: {what['ngram']}, text: {_quoted(what['text'])}, "
                f"name: {one.name}}}]"
            )
    missing = [f"{one.name} = 0" for one in found if not _asks_for(recipe.where, one.name)]
    if missing:
        before = [f"({recipe.where})"] if recipe.where else []
        sql = " and ".join([*before, *missing])
        lines.append(f"where: {sql if _PLAIN.fullmatch(sql) else _quoted(sql)}")
    return lines


def _asks_for(sql: str | None, name: str) -> bool:
    return re.search(rf"\b{name}\b", sql or "", re.IGNORECASE) is not None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
