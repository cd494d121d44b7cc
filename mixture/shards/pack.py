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
from mixture.plan.stretch import crossed
from mixture.plan.window import rules, windows
from mixture.recipe import Recipe
from mixture.shards.record import cells_of, record_path, rows_path, shard_name
from mixture.shards.write import Geometry
from mixture.storage import Place, as_place, each, files_in, is_remote, read_record, size_of
from mixture.tokens.ingest import Store, StoredPart
from mixture.tokens.inputs import remember, remembered
from mixture.workspace import Workspace

#: Bytes of the store that a task holds to their hashes, about.
_CHECK_BYTES = 1 << 30
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
    records = {_target(task): record for of_phase in tasks for task, record in _whole(of_phase)}
    missing = [task for task in every if _target(task) not in records]
    total = sum(task.weight for task in every)
    if missing:
        _check_store(store, workspace, engine)
    progress.start(
        "pack",
        f"{len(missing)} of {len(every)} shards not whole yet",
        "tokens",
        total,
        total - sum(task.weight for task in missing),
    )
    for task, record in engine.run(missing, "pack"):
        # A cluster may know of a task's end from a run whose shards were removed since.
        if size_of(as_place(_target(task))) != record["size"]:
            raise StoreError(f"{_target(task)}: written, but it is not there any more; run the same command again")
        records[_target(task)] = record
        progress.advance(task.weight)
    progress.finish()
    found = [[records[_target(task)] for task in of_phase] for of_phase in tasks]
    phases = [_completed(recipe, *pair) for pair in zip(plan.lock.phases, found, strict=True)]
    lock = replace(plan.lock, phases=phases)
    if plan.lock.packed:
        _hold_to(plan.lock, lock, lock_path)
    else:
        lock.write(lock_path)
    return Packed(folders, lock, tuple(task.label for task in missing))


def _target(task: Task) -> str:
    return str(task.arguments["target"])


def _whole(tasks: Sequence[Task]) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Yield the tasks of a phase whose shards are whole, with their records: one listing, then the records."""
    folder = as_place(_target(tasks[0])).parent
    sizes = files_in(folder)
    there = [task for task in tasks if task.label in sizes]
    read = functools.partial(_record_of, sizes)
    for task, record in zip(there, each(read, there, folder), strict=True):
        if record is not None:
            yield task, record


def _record_of(sizes: dict[str, int], task: Task) -> dict[str, Any] | None:
    """Return the record of a task's shard; None if it is of another stream, or not all it speaks of is there."""
    shard = as_place(_target(task))
    record = read_record(record_path(shard), *_KEPT, "stream", "cells", "context", "packing", "rows")
    if record is None or record["stream"] != task.arguments["stream"]:
        return None
    expected = {shard.name: record["size"], rows_path(shard).name: record["rows"][0]}
    return record if all(sizes.get(name) == size for name, size in expected.items()) else None


def _check_store(store: Store, workspace: Workspace, engine: Engine) -> None:
    """Hold each part to its hash, once in each state of its file: what is packed wrong would be wrong for ever.

    What lies in an object store is not read for that: the store itself checks its bytes.
    """
    if is_remote(store.folder):
        return
    paths = [part.files.tokens for part in store.parts]
    seen = remembered(workspace, paths)
    unknown = [part for part in store.parts if seen.get(part.files.tokens) != part.record["hash"] and not part.fresh]
    for _ in engine.run(list(_checks(unknown)), "pack"):
        pass
    remember(workspace, {part.files.tokens: part.record["hash"] for part in store.parts})


def _checks(parts: Sequence[StoredPart]) -> Iterator[Task]:
    """Yield the tasks that hold parts to their hashes, about a gigabyte each."""
    group: list[StoredPart] = []
    size = 0
    for number, part in enumerate(parts):
        group.append(part)
        size += part.record["size"]
        if size >= _CHECK_BYTES or number == len(parts) - 1:
            named = [[str(one.files.tokens), one.record["hash"]] for one in group]
            more = f" and {len(group) - 1:,} more" if len(group) > 1 else ""
            yield Task("mixture.tokens.store:check_parts", {"parts": named}, size, f"check {group[0].name}{more}")
            group, size = [], 0


def _tasks(recipe: Recipe, store: Store, plan: Plan, phase: int, folder: Place) -> Iterator[Task]:
    planned, cut = plan.phases[phase], windows(plan.lock, phase)
    fields, key = geometry(recipe, plan.lock, phase).to_json(), stream_key(plan.lock, phase)
    for number in range(cut.count):
        first, stop = cut.stretch(number)
        slices = crossed(planned.starts, first, stop)
        target = folder / shard_name(number, cut.count)
        arguments = {
            "plan": str(planned.folder),
            "parts": str(planned.parts),
            "slices": [slices.start, list(planned.starts[slices.start : slices.stop + 1])],
            "window": [number, first, stop],
            "store": str(store.folder),
            "target": str(target),
            "geometry": fields,
            "stream": key,
        }
        yield Task("mixture.shards.write:write_shard", arguments, stop - first, target.name)


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
