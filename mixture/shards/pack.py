"""The pack stage: one task per shard, then the lock is completed with what came out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mixture.engine import Engine, Progress, Task
from mixture.errors import StoreError
from mixture.lockfile import Lock
from mixture.plan.make import Plan
from mixture.recipe import Recipe
from mixture.shards.write import Geometry, record_path
from mixture.storage import read_json, read_record
from mixture.tokens.ingest import Store
from mixture.workspace import Workspace

#: What the lock keeps of each shard's record.
_KEPT = ("shard", "sequences", "tokens", "size", "hash")


@dataclass(frozen=True)
class Packed:
    """The written stream.

    Attributes:
        folder: holds the shards.
        lock: the completed lock.
        made: names of the shards that this run wrote.
    """

    folder: Path
    lock: Lock
    made: tuple[str, ...]


def geometry(recipe: Recipe, lock: Lock) -> Geometry:
    """Return how a recipe's sequences are laid out."""
    return Geometry(
        recipe.sequence.length,
        recipe.packing,
        tuple(lock.tokenizer["prefix"]),
        tuple(lock.tokenizer["suffix"]),
        lock.tokenizer["vocabulary"],
        recipe.buckets,
    )


def shard_name(number: int, count: int) -> str:
    """Return a shard's file name."""
    return f"shard-{number:05d}-of-{count:05d}.arrow"


def pack(
    recipe: Recipe,
    store: Store,
    plan: Plan,
    workspace: Workspace,
    engine: Engine,
    lock_path: Path,
    progress: Progress,
) -> Packed:
    """Write every shard of a plan that is not whole, and complete the lock.

    Raises:
        StoreError: the store lost a part, or shards came out other than the lock says.
    """
    folder = workspace.shards(recipe.name, plan.digest)
    tasks = list(_tasks(recipe, store, plan, folder))
    missing = [task for task in tasks if not _is_whole(Path(task.arguments["target"]), plan.digest)]
    total = sum(task.weight for task in tasks)
    if missing:
        _check_store(store, engine)
    progress.start(
        "pack",
        f"{len(missing)} of {len(tasks)} shards not whole yet",
        "tokens",
        total,
        total - sum(task.weight for task in missing),
    )
    for task, _ in engine.run(missing):
        progress.advance(task.weight)
    progress.finish()
    lock = _completed(recipe, plan.lock, [read_json(record_path(Path(task.arguments["target"]))) for task in tasks])
    if plan.lock.packed:
        _hold_to(plan.lock, lock, lock_path)
    else:
        lock.write(lock_path)
    return Packed(folder, lock, tuple(Path(task.arguments["target"]).name for task in missing))


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
    for _ in engine.run(tasks):
        pass


def _tasks(recipe: Recipe, store: Store, plan: Plan, folder: Path) -> list[Task]:
    count = recipe.shard_count
    fields = json.loads(json.dumps(asdict(geometry(recipe, plan.lock))))
    tasks = []
    for shard in range(count):
        sequences = min(recipe.shard_sequences, recipe.sequences - shard * recipe.shard_sequences)
        arguments = {
            "shard": shard,
            "plan": str(plan.folder),
            "store": str(store.folder),
            "target": str(folder / shard_name(shard, count)),
            "geometry": fields,
            "plan_digest": plan.digest,
        }
        weight = sequences * recipe.sequence.length
        tasks.append(Task("mixture.shards.write:write_shard", arguments, weight, shard_name(shard, count)))
    return tasks


def _is_whole(shard: Path, plan_digest: str) -> bool:
    record = read_record(record_path(shard), *_KEPT, "plan", "cells", "rows")
    if record is None or record["plan"] != plan_digest:
        return False
    return shard.exists() and shard.stat().st_size == record["size"]


def _completed(recipe: Recipe, lock: Lock, records: Sequence[dict[str, Any]]) -> Lock:
    names = recipe.bucket_names
    written: dict[tuple[str, str], int] = {}
    for record in records:
        for domain, tokens in record["cells"].items():
            for bucket, count in zip(names, tokens, strict=True):
                written[domain, bucket] = written.get((domain, bucket), 0) + count
    cells = [cell | {"written": written.get((cell["domain"], cell["bucket"]), 0)} for cell in lock.cells]
    for cell in cells:
        if cell["written"] != cell["granted"]:
            raise StoreError(
                f"cell {cell['domain']} {cell['bucket']}: {cell['written']:,} tokens written, {cell['granted']:,} "
                "granted; the plan and the shards do not belong together: remove both and run again"
            )
    return replace(lock, shards=[{name: record[name] for name in _KEPT} for record in records], cells=cells)


def _hold_to(before: Lock, now: Lock, lock_path: Path) -> None:
    for old, new in zip(before.shards, now.shards, strict=True):
        if old["hash"] != new["hash"]:
            raise StoreError(
                f"{new['shard']}: hash {new['hash']}, but {lock_path} says {old['hash']} for the same plan; if the "
                "libraries changed their file layout (see `with` in the lock), remove the lock and run again to record "
                "the new hashes"
            )
