"""The plan stage: survey, quotas, draws, slices, phase by phase, and the lock. Reads the index; reads no token.

pool ─ survey ─ supply ─ solve ─ quotas ─ draw ─ documents ─ slices ─ stream
  ▲                                         │
  └── appearances of the phases before ◄────┘
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mixture import lockfile
from mixture.engine import Engine, Progress
from mixture.errors import PlanError, ShortageError, nearest, some
from mixture.hashing import fingerprint
from mixture.index.build import Index
from mixture.lockfile import Lock
from mixture.plan.cells import Grid
from mixture.plan.consumed import write_seen
from mixture.plan.draw import Drawn, Survey, draw_documents, survey
from mixture.plan.given import Given, label
from mixture.plan.laid import lay
from mixture.plan.order import slice_count
from mixture.plan.pool import Pool, Threshold, Weights
from mixture.plan.records import Plan, PlannedPhase, assemble, cell_rows, held_out, lock_of, whole_record, write_record
from mixture.plan.related import run_tokens
from mixture.plan.slices import Slicing, write_slices
from mixture.plan.solved import Solved, matched, solve_phase
from mixture.recipe import Phase, Recipe
from mixture.related.relate import Relater, Relations
from mixture.storage import Place, as_place, each, make_folder, matches, remove
from mixture.tokens.ingest import Store
from mixture.tokens.separators import Frame, frame
from mixture.workspace import Workspace

_FORMAT_VERSION = 3


@dataclass(frozen=True)
class Planner:
    """Plans a recipe over an index.

    Attributes:
        recipe: what is made.
        store: the tokenizer and what became of the documents.
        index: the documents.
        weights: their relative chances, or None.
        scored: what the scores behind the weights hold, for the lock.
        given: what the plan is told besides the recipe.
        workspace: where plans lie.
        engine: where tasks run.
        progress: who is told.
        relater: who knows which documents are related, or None.
    """

    recipe: Recipe
    store: Store
    index: Index
    weights: Weights | None
    scored: dict[str, Any]
    given: Given
    workspace: Workspace
    engine: Engine
    progress: Progress
    relater: Relater | None = None

    def plan(self, lock_path: Place) -> Plan:
        """Plan every phase and write the lock.

        Raises:
            ShortageError: the corpus does not hold what the recipe wants.
            PlanError: the recipe names a domain that the corpus does not have.
            LockError: the lock file there belongs to another recipe, or is damaged.
        """
        old = lockfile.read(lock_path)
        if old is not None:
            lockfile.check_owner(old, lock_path, self.recipe.name)
        phases = self.phases()
        folders = [self._folder(phases[: n + 1]) for n in range(len(phases))]
        records = [whole_record(folder) for folder in folders]
        work, ready = 3 * self.index.documents, sum(record is not None for record in records)
        why = self._what_changed(old)
        self.progress.start("plan", why, "documents", work * len(phases), work * ready)
        for number, record in enumerate(records):
            if record is None:
                earlier = [r for r in records[:number] if r is not None]
                records[number] = self._make(phases[number], folders[number], earlier)
        self.progress.finish()
        whole_records = [record for record in records if record is not None]
        lock = lock_of(self.recipe, self.store, self.index, self.given, self.scored, phases, whole_records)
        if self.weights is not None:
            lock = replace(lock, work=lock.work | {"weights": as_place(self.weights.path).stem})
        if old is not None and old.packed and old.without_shards() == lock:
            # The stream is the one that was packed: what it came out as stays, and `pack` holds its shards to it.
            lock = replace(old, work=lock.work)
        if old is None or old != lock or old.work != lock.work:
            lock.write(lock_path)
        planned = tuple(
            PlannedPhase(phase, folder, self.index.parts, tuple(record["starts"]), record["digest"])
            for phase, folder, record in zip(phases, folders, whole_records, strict=True)
        )
        return Plan(planned, lock, ready < len(phases))

    def phases(self) -> tuple[Phase, ...]:
        """Return the recipe's phases, scaled.

        Raises:
            PlanError: a scaled budget holds no sequence.
        """
        scale = self.given.fraction
        scaled = tuple(replace(p, budget=int(p.budget * scale)) for p in self.recipe.all_phases())
        for phase in scaled:
            if not phase.sequences:
                raise PlanError(
                    f"--scale {self.given.scale}: {phase.budget:,} tokens do not fill a sequence of "
                    f"{phase.sequence.length:,}; give a larger scale"
                )
        return scaled

    def solve(self) -> list[Solved]:
        """Find the quotas of every phase without writing a plan; a shortage is told, not raised, and ends it."""
        from mixture.plan.dry_run import solve_phases

        return solve_phases(self)

    def cells(self, solved: Solved) -> list[dict[str, Any]]:
        """Return a phase's cell table, JSON-able."""
        return cell_rows(solved.found, solved.solution)

    def _folder(self, phases: Sequence[Phase]) -> Place:
        """Return where the last of some phases is planned: named by all that its stream follows from."""
        apart = ("phases", "budget", "sequence", "mix", "packing", "transforms")
        what = {k: v for k, v in self.recipe.what().items() if k not in apart}
        if self.recipe.transforms.related:
            paths = self._relations.record["digest"] if self._relations else None
            what["related"] = self.recipe.transforms.related.model_dump(mode="json") | {"digest": paths}
        sequences = [p.sequence.model_dump(mode="json", exclude={"align"}) for p in phases]
        mixes = [p.mix.model_dump(mode="json") for p in phases]
        steps = [[p.name, p.budget, *both] for p, *both in zip(phases, sequences, mixes, strict=True)]
        source = [self.store.tokenizer.fingerprint, self.index.folder.name]
        weights = None if self.weights is None else as_place(self.weights.path).name
        key = fingerprint([_FORMAT_VERSION, what, steps, source, weights, self.given.to_json()])
        return self.workspace.plan(label(self.recipe.name, phases[-1].name), key)

    def around(self, phase: Phase) -> Frame:
        """Return what stands around each document of a phase."""
        return frame(self.store.tokenizer, phase.sequence.separator)

    def pool(self, phase: Phase, earlier: Sequence[tuple[Threshold, ...]], folder: Place) -> Pool:
        """Return what a phase draws from, after the phases before it; a column of what was consumed goes to a folder.

        Raises:
            PlanError: buckets or hold-outs name a domain that the corpus does not have.
        """
        recipe, domains = self.recipe, self.index.census.domains
        for where, named in (("buckets.domains", recipe.buckets.domains), ("holdout.domains", recipe.holdout.domains)):
            for name in named:
                if name not in domains:
                    raise PlanError(f"{where}: {name!r} is not a domain of this corpus; {nearest(name, domains)}")
        seen, most = None, 0
        if self.given.consumed:
            seen = folder / "seen.arrow"
            most = write_seen(self.given.consumed, self.index.table, self.workspace, seen)
        rules = [phase.mix.rule(name) for name in domains]
        return Pool(
            index=(str(self.index.table),),
            grid=Grid.of(domains, recipe.buckets),
            holdout=tuple(recipe.holdout.of(name) for name in domains),
            separators=self.around(phase).size,
            seed=recipe.seed,
            weights=self.weights,
            seen=None if seen is None else str(seen),
            # Levels count from the first appearance ever.
            most_seen=max([most, *(t.level + (t.at is not None) for found in earlier for t in found)]),
            earlier=tuple(earlier),
            lengths=any(rule.power is not None for rule in rules),
        )

    def solved(
        self, phase: Phase, earlier: Sequence[tuple[Threshold, ...]], folder: Place
    ) -> tuple[Pool, Survey, Solved]:
        """Survey what a phase may draw, and solve it; a pilot with matched repetition has the full plan's epochs.

        Args:
            phase: scaled.
            earlier: thresholds of the phases before it.
            folder: where the survey goes.

        Returns:
            What the phase draws from, the survey of all that may be drawn, and the quotas.

        Raises:
            PlanError: see `pool`, or a pilot's documents do not fill a sequence.
        """
        pool = self.pool(phase, earlier, folder)
        found = survey(pool, folder, self.engine, self.progress)
        if not self.given.match_repetition:
            return pool, found, solve_phase(phase, found)
        full = solve_phase(next(p for p in self.recipe.all_phases() if p.name == phase.name), found)
        if full.shortage:
            return pool, found, replace(full, phase=phase)
        pool = replace(pool, pilot=float(self.given.fraction))
        return pool, found, matched(full, phase, survey(pool, folder, self.engine, self.progress))

    def draw(self, pool: Pool, solved: Solved, folder: Place) -> Drawn:
        """Draw a phase's documents from its pool, into files of a folder."""
        pool.write(folder / "pool.json")
        return draw_documents(pool, solved.found, solved.solution.granted, folder, self.engine, self.progress)

    def _make(self, phase: Phase, folder: Place, earlier: Sequence[dict[str, Any]]) -> dict[str, Any]:
        make_folder(folder)
        if self.given.like:
            from mixture.plan.like import follow

            return follow(self, phase, folder)
        for stale in matches(folder, "*.parquet"):
            remove(stale)
        thresholds = [tuple(Threshold.from_json(t) for t in record["thresholds"]) for record in earlier]
        pool, found, solved = self.solved(phase, thresholds, folder)
        if solved.shortage:
            raise ShortageError(solved.shortage)
        drawn = self.draw(pool, solved, folder)
        related, runs = self._relations, None
        documents = {"held_out": held_out(found), **found.fates}
        if related:
            cuts = self._cuts(solved, related)
            drawn = lay(drawn, related, cuts, self.engine)
            runs = {"folder": related.folder.name, "blocks": related.blocks, "cuts": cuts}
            documents["related"] = related.record
        around = self.around(phase)
        records = write_slices(
            drawn, _slicing(solved.phase, around), folder, self.engine, self.progress, self.index.documents
        )
        each(remove, [*drawn.once, *drawn.often], folder)
        said = {
            "index": self.index.folder.name,
            "runs": runs,
            "thresholds": [asdict(t) for t in drawn.thresholds],
            "cells": cell_rows(solved.found, solved.solution, drawn.thresholds),
            "documents": documents,
        }
        return write_record(folder, assemble(records, solved.phase, around, found) | said)

    @functools.cached_property
    def _relations(self) -> Relations | None:
        """Which documents are related; a plan that follows another one keeps that one's order."""
        return None if self.relater is None or self.given.like else self.relater.relations()

    def _cuts(self, solved: Solved, related: Relations) -> dict[str, int]:
        """Return after how many tokens the paths of each related domain are cut into runs."""
        rule = self.recipe.transforms.related
        run = (rule.run if rule else None) or solved.phase.sequence.length
        grid = solved.found.grid
        wanted = dict(zip(grid.domains, grid.sums(solved.solution.granted).tolist(), strict=True))
        return {name: run_tokens(run, tokens, wanted[name]) for name, tokens in related.tokens.items()}

    def _what_changed(self, old: Lock | None) -> str:
        if old is None:
            return "no lock yet"
        changed = lockfile.changes(old.recipe["content"], self.recipe.what())
        if changed:
            return f"the recipe changed: {some(changed)}"
        if old.given != self.given.to_json():
            return "what the plan is told besides its recipe changed"
        if old.documents["digest"] != self.index.digest:
            return "the documents changed"
        return "the plan was not in the work directory"


def _slicing(phase: Phase, around: Frame) -> Slicing:
    """Return how a phase is laid into slices: about one a shard."""
    shard = phase.shard_tokens // phase.sequence.length * phase.sequence.length
    return Slicing(slice_count(phase.exact_budget, shard), len(around.prefix), len(around.suffix))
