"""The stages in their order. Each finds what is whole, makes what is missing, and can say why.

    recipe ─ tokenize ─ store ─ bucket ─ index ─ plan ─ lock ─ pack ─ shards ─ verify

A stage needs what comes before it, so a command for a late stage runs the earlier ones too: they only look, when
nothing has changed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mixture import lockfile
from mixture.engine import Engine, Progress
from mixture.errors import LockError, PlanError, StoreError, VerifyError, some
from mixture.index.build import Index, bucket
from mixture.index.weights import find_weights
from mixture.lockfile import Lock
from mixture.plan import given as given_stage
from mixture.plan.compare import compare_cells, compare_documents
from mixture.plan.given import Given
from mixture.plan.like import check_alike
from mixture.plan.make import Planner
from mixture.plan.pool import Weights
from mixture.plan.records import Plan
from mixture.recipe import Recipe
from mixture.recipe.file import load as load_recipe
from mixture.recipe.sources import Score
from mixture.related.relate import Relater
from mixture.scores.advice import sentence
from mixture.scores.compute import Scores, choose, score
from mixture.scores.contamination import Searched, gates, search
from mixture.scores.findings import Findings, findings, with_flagged
from mixture.shards.pack import Packed, pack
from mixture.storage import Place
from mixture.tokens.ingest import Store, tokenize
from mixture.tokens.inputs import find
from mixture.verify import Checks, Finding, Verified, verify
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
    lock_path: Place
    engine: Engine
    progress: Progress

    def tokenize(self) -> Store:
        """Bring the corpora into the token store."""
        return tokenize(self.recipe, self.workspace, self.engine, self.progress)

    def bucket(self, store: Store) -> Index:
        """Build the document index."""
        return bucket(self.recipe, store, self.workspace, self.progress)

    @property
    def lock_option(self) -> str:
        """The option that names the lock, where it is not beside the recipe."""
        return "" if self.lock_path == default_lock(self.path) else f" --lock {self.lock_path}"

    def scaled(self, given: Given) -> Job:
        """Return the job with a lock of its own, if what is given scales it: a pilot's is not the recipe's."""
        if not given.scale or self.lock_option:
            return self
        pilot = given.scale.replace("/", "-") + ("-matched" if given.match_repetition else "")
        usual = self.lock_path.name.removesuffix(".lock.json")
        return replace(self, lock_path=self.lock_path.with_name(f"{usual}.scale-{pilot}.lock.json"))

    def given(
        self,
        consumed: Sequence[str] = (),
        like: Path | None = None,
        scale: str = "",
        *,
        match_repetition: bool = False,
    ) -> Given:
        """Read what a plan is told besides its recipe.

        Args:
            consumed: `OLD.lock.json@SEQUENCE`, or a ledger's name, see `given.parse_consumed`.
            like: a lock whose documents and order are kept.
            scale: a fraction of the budget.
            match_repetition: draw from that fraction of the documents.

        Raises:
            PlanError: they do not go together, or name what is not there.
        """
        if match_repetition and not scale:
            raise PlanError("--match-repetition goes with --scale, for example --scale 1/16 --match-repetition")
        if like is not None and (consumed or scale):
            raise PlanError("--like follows another plan as it is: it goes neither with --consumed nor with --scale")
        followed: tuple[str, ...] = ()
        if like is not None:
            lock = given_stage.require(like)
            check_alike(lock.recipe["content"], self.recipe, str(like))
            followed = tuple(phase["stream"]["digest"] for phase in lock.phases)
        seen = given_stage.merged(entry for text in consumed for entry in given_stage.parse_consumed(text))
        for text in consumed:
            if self.lock_path.exists() and given_stage.named_lock(text).resolve() == self.lock_path.resolve():
                raise PlanError(
                    f"--consumed {text}: that is the lock which this plan writes; keep the old one under another name, "
                    "or name the new one with --lock"
                )
        return Given(seen, followed, given_stage.parse_scale(scale) if scale else "", match_repetition)

    def planner(self, store: Store, index: Index, given: Given | None = None) -> Planner:
        """Return who plans the recipe; what is given besides it is by default what its lock says.

        Raises:
            LockError: the lock cannot be read.
        """
        if given is None:
            old = lockfile.read(self.lock_path)
            same = old is not None and old.recipe["fingerprint"] == self.recipe.fingerprint
            given = Given.from_json(old.given) if old is not None and same else Given()
        weights, scored = self._weights(store, index)
        place = (self.workspace, self.engine, self.progress)
        rule = self.recipe.transforms.related
        relater = Relater(self.recipe, rule, store, index, *place) if rule else None
        return Planner(self.recipe, store, index, weights, scored, given, *place, relater=relater)

    def score(self, columns: Sequence[str] = ()) -> Scores:
        """Compute scores of every document, or find them computed.

        Args:
            columns: which; by default those that the recipe names.

        Raises:
            RecipeError: there are none, or no such ones.
        """
        chosen = choose(self.recipe, columns)
        # Joined documents are made by `tokenize`, and contamination is looked for in tokens; other texts are read where
        # they lie.
        if any(source.join for source in chosen.sources) or any(s.contamination for s in chosen.scores):
            store = self.tokenize()
            return self._score(chosen, store, self._search(chosen.scores, store))
        texts = find(chosen, self.workspace, self.engine)
        return score(chosen, texts, self.workspace, self.engine, self.progress)

    def _score(self, recipe: Recipe, store: Store, searched: Sequence[Searched]) -> Scores:
        return score(recipe, store.texts, self.workspace, self.engine, self.progress, searched)

    def _search(self, rules: Sequence[Score], store: Store) -> tuple[Searched, ...]:
        place = (self.workspace, self.engine, self.progress)
        return tuple(search(self.recipe, rule, store, *place) for rule in rules if rule.contamination)

    def decontaminate(self, against: Sequence[str] = (), ngram: int | None = None, text: str = "") -> list[Findings]:
        """Find the documents of the index that share n-grams with evaluation files: the recipe's, or others.

        Args:
            against: other files than the recipe's, relative to the data root.
            ngram: tokens in an n-gram, if not as the recipe says.
            text: field of the evaluation files' text, if not as the recipe says.

        Raises:
            RecipeError: neither names evaluation files.
            InputError: one cannot be read, or holds nothing to look for.
        """
        rules = gates(self.recipe, against, ngram, text)
        store = self.tokenize()
        index = self.bucket(store)
        return [findings(gate, index.table, store.tokenizer) for gate in self._search(rules, store)]

    def _weights(self, store: Store, index: Index) -> tuple[Weights | None, dict[str, Any]]:
        """Evaluate the recipe's SQL over the index, or find it evaluated; return also what its scores hold."""
        recipe = self.recipe
        searched = self._search(recipe.scores, store)
        flagged = {gate.table.name: with_flagged(gate, index.table) for gate in searched}
        for found in flagged.values():
            self.progress.say(sentence(recipe, found))
        if recipe.where is None and recipe.weight is None:
            return None, flagged
        scores = self._score(recipe, store, searched) if recipe.scores else None
        tables, held = (scores.tables, scores.record) if scores else ((), {})
        target, record = find_weights(index.table, recipe.where, recipe.weight, tables, held, self.progress)
        return Weights(str(target), record["lightest"], record["heaviest"]), held | flagged

    def plan(self, store: Store, index: Index, given: Given | None = None) -> Plan:
        """Plan the stream and write the lock; see `planner`."""
        return self.planner(store, index, given).plan(self.lock_path)

    def pack(self, store: Store, made: Plan) -> Packed:
        """Write the shards and complete the lock."""
        return pack(self.recipe, store, made, self.workspace, self.engine, self.lock_path, self.progress)

    def verify(self, shards: Place | None = None) -> Verified:
        """Check the shards against the lock, without the store or the plan.

        Args:
            shards: where they are, if not in the work directory; several phases each in a folder of its own there.

        Raises:
            LockError: there is no lock, or it is of another recipe or another state of this one.
            VerifyError: a shard breaks a law, or is damaged; the first fault is told.
        """
        lock = current_lock(self.recipe, self.lock_path)
        checks = Checks(shards=shards, work=False)
        found = verify(self.recipe, lock, self.workspace, self.engine, self.progress, checks)
        found.demand()
        return found

    def inspect(self, checks: Checks) -> Verified:
        """Check the lock, the shards and what they were made from, and collect every fault."""
        try:
            lock = current_lock(self.recipe, self.lock_path)
            return verify(self.recipe, lock, self.workspace, self.engine, self.progress, checks)
        except (LockError, StoreError, VerifyError) as error:
            return Verified(findings=(Finding("lock", str(error), str(self.lock_path)),))


def current_lock(recipe: Recipe, path: Place) -> Lock:
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


@dataclass(frozen=True)
class Comparison:
    """Two mixtures side by side.

    Attributes:
        names: what each is called.
        rules: what differs between the recipes, a sentence each.
        locks: of both.
        documents: documents kept, gained and lost, by domain; None where a plan is not in the work directory.
        unknown: why there are none.
    """

    names: tuple[str, str]
    rules: list[str]
    locks: tuple[Lock, Lock]
    documents: list[dict[str, Any]] | None
    unknown: str

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "a": self.names[0],
            "b": self.names[1],
            "rules": self.rules,
            "cells": compare_cells(*self.locks),
            "documents": self.documents,
        }


def compare(a: Path, b: Path, workspace: Workspace, engine: Engine, progress: Progress) -> Comparison:
    """Compare two recipes or locks; recipes are planned, but no lock is written.

    Raises:
        MixtureError: a file is neither, or a recipe has no plan.
    """
    locks = (_lock_of(a, workspace, engine, progress), _lock_of(b, workspace, engine, progress))
    rules = lockfile.changes(locks[0].recipe["content"], locks[1].recipe["content"])
    documents, unknown = None, ""
    try:
        documents = compare_documents(*locks, workspace)
    except StoreError as error:
        unknown = f"documents gained and lost are not known: {error}"
    return Comparison((str(a), str(b)), rules, locks, documents, unknown)


def _lock_of(path: Path, workspace: Workspace, engine: Engine, progress: Progress) -> Lock:
    if path.name.endswith(".json"):
        return given_stage.require(path)
    with tempfile.TemporaryDirectory() as aside:
        job = open_job(path, workspace, engine, progress, Path(aside) / "lock.json")
        store = job.tokenize()
        return job.plan(store, job.bucket(store), Given()).lock


def open_job(
    path: Path, workspace: Workspace, engine: Engine, progress: Progress, lock_path: Place | None = None
) -> Job:
    """Read a recipe and bind it to a place."""
    recipe = load_recipe(path)
    return Job(path, recipe, workspace, lock_path or default_lock(path), engine, progress)


def default_lock(recipe: Path) -> Path:
    """Return the lock's usual place: beside the recipe."""
    return recipe.with_name(recipe.name.removesuffix(".yaml").removesuffix(".yml") + ".lock.json")
