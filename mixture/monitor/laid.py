"""A suite laid over a model: columns become lengths in tokens, up to the model's window.

    suite: tasks: {niah: {lengths: 4}}, window of the model 4,096    →   niah: lengths 1024, 2048, 3072, 4096

Laid once, for the first checkpoint that is examined, and kept: curves are of one grid, also where a later phase has a
longer window. The last column is the window itself, so the answer to it stands some tokens past that. A column that
cannot hold a task's question is left out, a task that none can hold, too; lengths that people wrote down are taken as
they are, or refused.
"""

from __future__ import annotations

from collections.abc import Callable

from mixture.errors import MonitorError
from mixture.monitor.codec import Codec
from mixture.monitor.haystack import Haystack
from mixture.monitor.probes import Lots
from mixture.monitor.suite import Grid, GridRule, HeadsRule, Suite
from mixture.monitor.tasks import lengths_to, task
from mixture.recipe.quantities import show_length

Say = Callable[[str], None]


def laid(suite: Suite, codec: Codec, haystack: Haystack, window: int, say: Say) -> Suite:
    """Return a suite whose grids have lengths in tokens, and whose window is a number.

    Args:
        suite: as it was written.
        codec: the tokenizer of the first model.
        haystack: in its vocabulary.
        window: of that model.
        say: is told what is left out.

    Raises:
        MonitorError: lengths that are longer than the window or hold no question, or a haystack that is too small.
    """
    window = suite.window or window
    tasks: dict[str, GridRule] = {}
    for name in suite.tasks:
        found = _laid(name, suite.grid(name), codec, haystack, window, say)
        if found is not None:
            tasks[name] = found
    heads = _laid(suite.heads.task, suite.heads_grid, codec, haystack, window, say)
    if not tasks or heads is None:
        raise MonitorError(
            f"a window of {window:,} tokens holds no question of {', '.join(suite.tasks)}; examine a model with a "
            "longer one, or give `window` and `lengths` in the suite to measure beyond it"
        )
    changed = {"task": suite.heads.task, "causal": suite.heads.causal, "draws": suite.heads.draws}
    told = HeadsRule.model_validate(heads.model_dump() | changed)
    return suite.model_copy(update={"tasks": tasks, "heads": told, "window": window})


def check_window(suite: Suite, window: int, name: str) -> None:
    """Refuse to examine a model at lengths beyond its window, unless the suite was told of such a window.

    Args:
        suite: laid.
        window: of the model.
        name: what it is called.

    Raises:
        MonitorError: its window is shorter than the suite's.
    """
    longest = max(max(_listed(rule)) for rule in (*suite.tasks.values(), suite.heads) if _listed(rule))
    if longest > window:
        raise MonitorError(
            f"{name}: the grid goes to {longest:,} tokens and the model's window is {window:,}; give `lengths` up to "
            f"{window:,} in the suite and another --out, or `window: {show_length(longest)}` to measure beyond it"
        )


def _listed(rule: GridRule) -> tuple[int, ...]:
    return rule.lengths if isinstance(rule.lengths, tuple) else ()


def _laid(name: str, grid: Grid, codec: Codec, haystack: Haystack, window: int, say: Say) -> GridRule | None:
    if isinstance(grid.lengths, tuple):
        _check(name, grid.lengths, window)
        found = grid.lengths
    else:
        columns = lengths_to(window, grid.lengths)
        found = tuple(length for length in columns if _holds(name, codec, haystack, length))
        if len(found) < len(columns):
            most = columns[len(columns) - len(found) - 1]
            rest = f"{most:,} tokens and fewer hold no question" if found else "its window holds no question"
            say(f"{name}: {'left out, ' if not found else ''}{rest}")
    if not found:
        return None
    haystack.around(max(found), 0, Lots(0, "room"))
    return GridRule(lengths=found, depths=grid.places, samples=grid.samples)


def _check(name: str, lengths: tuple[int, ...], window: int) -> None:
    if lengths[-1] > window:
        raise MonitorError(
            f"{name}: a length of {lengths[-1]:,} tokens is more than the model's window of {window:,}; give lengths "
            f"up to that, or `window: {show_length(lengths[-1])}` in the suite to measure beyond it"
        )


def _holds(name: str, codec: Codec, haystack: Haystack, length: int) -> bool:
    """Say whether a length holds a task's question with a fifth to spare: words differ in their tokens."""
    if length > len(haystack):
        return True
    try:
        task(name).probe(codec, haystack, length * 4 // 5, 0.5, 0, 0)
    except MonitorError:
        return False
    return True
