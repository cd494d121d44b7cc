"""The stages in their order. Each finds what is whole, makes what is missing, and can say why.

    recipe ─ tokenize ─ store ─ bucket ─ index ─ plan ─ lock ─ pack ─ shards ─ verify

A stage needs what comes before it, so a command for a late stage runs the earlier ones too: they only look, when
nothing has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mixture import lockfile
from mixture.engine import Engine, Progress
from mixture.errors import LockError, some
from mixture.index.build import Index, bucket
from mixture.lockfile import Lock
from mixture.plan.make import Plan, plan
from mixture.recipe import Recipe
from mixture.recipe_file import load as load_recipe
from mixture.shards.pack import Packed, pack
from mixture.shards.verify import Verified, verify
from mixture.tokens.ingest import Store, tokenize
from mixture.workspace import Workspace


@dataclass(frozen=True)
class Job:
    """One recipe, where it is made, and who makes it.

    Attributes:
        path: the recipe file.
        recipe: its content.
        workspace: where things lie.
        lock_path: the lock file.
        engine: where tasks run.
        progress: who is told.
    """

    path: Path
    recipe: Recipe
    workspace: Workspace
    lock_path: Path
    engine: Engine
    progress: Progress

    def tokenize(self) -> Store:
        """Bring the corpora into the token store."""
        return tokenize(self.recipe, self.workspace, self.engine, self.progress)

    def bucket(self, store: Store) -> Index:
        """Build the document index."""
        return bucket(self.recipe, store, self.workspace, self.progress)

    def plan(self, store: Store, index: Index) -> Plan:
        """Plan the stream and write the lock."""
        return plan(self.recipe, store, index, self.workspace, self.lock_path, self.progress)

    def pack(self, store: Store, made: Plan) -> Packed:
        """Write the shards and complete the lock."""
        return pack(self.recipe, store, made, self.workspace, self.engine, self.lock_path, self.progress)

    def verify(self, shards: Path | None = None) -> Verified:
        """Check the shards against the lock, without the store or the plan.

        Raises:
            LockError: there is no lock, or it is of another recipe or another state of this one.
            VerifyError: a shard breaks a law.
        """
        lock = current_lock(self.recipe, self.lock_path)
        folder = shards or self.workspace.shards(self.recipe.name, lock.stream["digest"])
        return verify(self.recipe, lock, folder, self.engine, self.progress)


def current_lock(recipe: Recipe, path: Path) -> Lock:
    """Read the lock of a recipe as it stands.

    Raises:
        LockError: none there, of another recipe, or of an earlier state of this one.
    """
    lock = lockfile.require(path, recipe.name)
    if lock.recipe["fingerprint"] != recipe.fingerprint:
        differs = some(lockfile.changes(lock.recipe["content"], recipe.what()))
        raise LockError(
            f"{path}: made from another state of the recipe ({differs}); run `mixture plan` and `mixture pack` again"
        )
    return lock


def open_job(
    path: Path, workspace: Workspace, engine: Engine, progress: Progress, lock_path: Path | None = None
) -> Job:
    """Read a recipe and bind it to a place."""
    recipe = load_recipe(path)
    return Job(path, recipe, workspace, lock_path or default_lock(path), engine, progress)


def default_lock(recipe: Path) -> Path:
    """Return the lock's usual place: beside the recipe."""
    return recipe.with_name(recipe.name.removesuffix(".yaml").removesuffix(".yml") + ".lock.json")
