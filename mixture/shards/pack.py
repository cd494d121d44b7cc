"""The pack stage: one task per shard, then the lock is completed with what came out."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mixture.engine import Engine, Progress, Task
from mixture.errors import StoreError
from mixture.hashing import fingerprint
from mixture.lockfile import Lock
from mixture.pack.facts import Facts
from mixture.plan.context import add
from mixture.plan.given import label
from mixture.plan.records import Plan
from mixture.plan.window import rules, windows
from mixture.recipe import Recipe
from mixture.shards.record import cells_of, record_path
from mixture.shards.write import Geometry
from mixture.storage import Place, as_place, each, read_json, read_record, size_of
from mixture.tokens.ingest import Store
from mixture.workspace import Workspace

#: What the lock keeps of each shard's record.
_KEPT = ("shard", "sequences", "tokens", "size", "hash")


@dataclass(frozen=True)
class Packed:
    """The written stream.

    Attributes:
        folders: hold the shards of each phase.
        lock: the completed lock.
        made: names of the shards that this run wrote.
    """

    folders: tuple[Place, ...]
    lock: Lock
    made: tuple[str, ...]


def geometry(recipe: Recipe, lock: Lock, phase: int) -> Geometry:
    """Return how the sequences of one of a recipe's phases are laid out."""
    stream, how = lock.phases[phase]["stream"], rules(lock, phase)
    highest = max(lock.tokenizer["vocabulary"] - 1, how.knots.highest if how.knots else 0)
    return Geometry(how, tuple(stream["prefix"]), tuple(stream["suffix"]), highest + 1, recipe.buckets)


def stream_key(lock: Lock, phase: int) -> str:
    """Return 32 hex digits that name what stands in a phase's shards: the plan, and how it is laid out."""
    # Another vocabulary may cut every document into as many tokens, and they are others.
    tokens = [lock.tokenizer["fingerprint"], lock.phases[phase]["stream"]["digest"]]
    return fingerprint([tokens, rules(lock, phase).to_json()])


def shard_name(number: int, count: int) -> str:
    """Return a shard's file name."""
    return f"shard-{number:05d}-of-{count:05d}.arrow"


def shards_folder(workspace: Workspace, lock: Lock, phase: int) -> Place:
    """Return where the shards of one phase lie."""
    return workspace.shards(label(lock.name, lock.phases[phase]["name"]), stream_key(lock, phase))


def pack(
    recipe: Recipe,
    store: Store,
    plan: Plan,
    workspace: Workspace,
    engine: Engine,
    lock_path: Place,
    progress: Progress,
) -> Packed:
    """Write every shard of a plan that is not whole, and complete the lock.

    Raises:
        StoreError: the store lost a part, or shards came out other than the lock says.
    """
    folders = tuple(shards_folder(workspace, plan.lock, n) for n in range(len(plan.phases)))
    tasks = [list(_tasks(recipe, store, plan, n, folder)) for n, folder in enumerate(folders)]
    every = [task for of_phase in tasks for task in of_phase]
    whole = each(_is_whole, every, workspace.work)
    missing = [task for task, is_whole in zip(every, whole, strict=True) if not is_whole]
    total = sum(task.weight for task in every)
    if missing:
        _check_store(store, engine)
    progress.start(
        "pack",
        f"{len(missing)} of {len(every)} shards not whole yet",
        "tokens",
        total,
        total - sum(task.weight for task in missing),
    )
    for task, _ in engine.run(missing, "pack"):
        progress.advance(task.weight)
    progress.finish()
    records = [each(_record_of, of_phase, workspace.work) for of_phase in tasks]
    phases = [_completed(recipe, phase, found) for phase, found in zip(plan.lock.phases, records, strict=True)]
    lock = replace(plan.lock, phases=phases)
    if plan.lock.packed:
        _hold_to(plan.lock, lock, lock_path)
    else:
        lock.write(lock_path)
    return Packed(folders, lock, tuple(as_place(task.arguments["target"]).name for task in missing))


def _record_of(task: Task) -> dict[str, Any]:
    record: dict[str, Any] = read_json(record_path(as_place(task.arguments["target"])))
    return record


def _check_store(store: Store, engine: Engine) -> None:
    """Hold each part that an earlier run wrote to its hash: what is packed wrong once would be wrong for ever."""
    tasks = [
        Task(
            "mixture.tokens.store:check_parts",
            {"parts": [[str(part.files.tokens), part.record["hash"]]]},
            part.record["size"],
            f"check {part.name}",
        )
        for part in store.parts
        if not part.fresh
    ]
    for _ in engine.run(tasks, "pack"):
        pass


def _tasks(recipe: Recipe, store: Store, plan: Plan, phase: int, folder: Place) -> Iterator[Task]:
    planned, cut = plan.phases[phase], windows(plan.lock, phase)
    fields, key = geometry(recipe, plan.lock, phase).to_json(), stream_key(plan.lock, phase)
    for number in range(cut.count):
        first, stop = cut.stretch(number)
        target = folder / shard_name(number, cut.count)
        arguments = {
            "plan": str(planned.folder),
            "parts": str(planned.parts),
            "starts": list(planned.starts),
            "window": [number, first, stop],
            "store": str(store.folder),
            "target": str(target),
            "geometry": fields,
            "stream": key,
        }
        yield Task("mixture.shards.write:write_shard", arguments, stop - first, target.name)


def _is_whole(task: Task) -> bool:
    shard = as_place(task.arguments["target"])
    record = read_record(record_path(shard), *_KEPT, "stream", "cells", "context", "packing", "rows")
    if record is None or record["stream"] != task.arguments["stream"]:
        return False
    return bool(size_of(shard) == record["size"])


def _completed(recipe: Recipe, phase: dict[str, Any], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a phase of the lock with its shards, and what they hold of each cell."""
    written = cells_of((record["cells"] for record in records), recipe.buckets)
    context: dict[str, list[int]] = {}
    for record in records:
        context = add(context, record["context"])
    cells = [cell | {"written": written.get((cell["domain"], cell["bucket"]), 0)} for cell in phase["cells"]]
    for cell in cells:
        if cell["written"] != cell["granted"]:
            raise StoreError(
                f"cell {cell['domain']} {cell['bucket']}: {cell['written']:,} tokens written, {cell['granted']:,} "
                "granted; the plan and the shards do not belong together: remove both and run again"
            )
    shards = [{name: record[name] for name in _KEPT} for record in records]
    whole_context = phase["context"] | {"shards": dict(sorted(context.items()))}
    facts = functools.reduce(operator.add, [Facts.from_json(record["packing"]) for record in records])
    packing = facts.to_json() | {"marks": sum(record["packing"]["marks"] for record in records)}
    return phase | {"cells": cells, "context": whole_context, "packing": packing, "shards": shards}


def _hold_to(before: Lock, now: Lock, lock_path: Place) -> None:
    for old, new in zip(before.shards, now.shards, strict=True):
        if old["hash"] != new["hash"]:
            raise StoreError(
                f"{new['shard']}: hash {new['hash']}, but {lock_path} says {old['hash']} for the same plan; if the "
                "libraries changed their file layout (see `with` in the lock), remove the lock and run again to record "
                "the new hashes"
            )
