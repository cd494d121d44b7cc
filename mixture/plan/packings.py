"""Packings side by side on a planned stream: what each would do to its documents. No token is read.

A window of the stream is laid out by every packing, so all of them are measured on the same documents. A long stream
is measured by some of its windows, spread evenly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from mixture.lockfile import Lock
from mixture.pack.facts import Facts
from mixture.plan.consumed import find_plan
from mixture.plan.given import label
from mixture.plan.window import Windows, piece_facts, read_window, windows
from mixture.recipe.packing import Kind, Packing, Transforms, check
from mixture.storage import Place
from mixture.workspace import Workspace

#: Windows that are laid out, at most.
_WINDOWS = 4
#: Share of long sequences where a recipe does not say it: ProLong's.
_LONG = 0.6


@dataclass(frozen=True)
class Compared:
    """A phase's documents, laid out by every packing.

    Attributes:
        name: the recipe's, with the phase.
        facts: of each packing, the recipe's own first.
        windows: how many windows of the stream they are of.
        of: how many there are.
    """

    name: str
    facts: dict[str, Facts]
    windows: int
    of: int


def compare_packings(lock: Lock, workspace: Workspace) -> list[Compared]:
    """Measure every packing that a recipe's sequences allow on each of its planned phases.

    Raises:
        StoreError: a plan is not in the work directory.
    """
    return [_compare(lock, number, workspace) for number in range(len(lock.phases))]


def _compare(lock: Lock, phase: int, workspace: Workspace) -> Compared:
    name, stream = label(lock.name, lock.phases[phase]["name"]), lock.phases[phase]["stream"]
    folder, record = find_plan(workspace, stream["digest"], name)
    cut = windows(lock, phase)
    cut = replace(cut, rules=replace(cut.rules, transforms=Transforms(), knots=None))
    own = cut.rules.packing
    others = [Packing(kind=kind, long=_LONG if kind == "split-by-length" else None) for kind in get_args(Kind)]
    chosen = np.unique(np.linspace(0, cut.count - 1, min(cut.count, _WINDOWS)).astype(int)).tolist()
    found: dict[str, Facts] = {}
    for rule in (own, *(rule for rule in others if rule.kind != own.kind)):
        if not check(rule, Transforms(), cut.rules.length, cut.rules.align):
            laid = replace(cut, rules=replace(cut.rules, packing=rule))
            facts = [_facts(folder, record, laid, number) for number in chosen]
            found[rule.kind] = sum(facts[1:], facts[0])
    return Compared(name, found, len(chosen), cut.count)


def _facts(folder: Place, record: dict[str, Any], cut: Windows, number: int) -> Facts:
    table, layout = read_window(folder, record["starts"], cut.stretch(number), cut.rules, number)
    around = (len(record["prefix"]), len(record["suffix"]))
    return piece_facts(table, layout.packed, around, cut.rules.length)
