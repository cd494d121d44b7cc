"""Random corpora and recipes, from the index to documents, and from documents to the stream."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixture import schemas
from mixture.engine import Silence
from mixture.errors import ShortageError
from mixture.hashing import id_words
from mixture.plan.cells import Counts, Grid
from mixture.plan.draw import Survey
from mixture.plan.order import id_ranges
from mixture.plan.pool import Threshold
from mixture.plan.shortage import largest_budget
from mixture.plan.slices import Slicing, grid_tokens, write_slices
from mixture.plan.solve import Solution, solve
from mixture.plan.stretch import read_stretch
from mixture.recipe.rules import Mix
from mixture.tokens.store import read_parquet
from tests.plan.problems import mix
from tests.plan.worlds import ENGINE, World, check, documents

_SEQUENCES = (1, 16, 100)


@dataclass(frozen=True)
class Case:
    """A random corpus and what is asked of it."""

    here: World
    rules: Mix
    budget: int
    sequence: int

    @staticmethod
    def make(folder: Path, seed: int) -> Case:
        random = np.random.default_rng(seed)
        names = [f"d{n}" for n in range(int(random.integers(1, 6)))]
        edges = [sorted(set(random.integers(5, 400, random.integers(0, 5)).tolist())) for _ in names]
        seen = int(random.choice([0, 0, 1, 3]))
        found = documents(random, names, int(random.integers(5, 160)), alike=bool(random.random() < 0.4), seen=seen)
        names = [name for name in names if name in found.domain]
        grid = Grid(tuple(names), tuple(tuple(e) for e in edges[: len(names)]))
        here = World.make(
            folder,
            found,
            grid,
            weighted=bool(random.random() < 0.5) and bool((found.weight > 0).any()),
            seen=seen > 0,
            holdout=tuple(random.choice([0, 0.1, 0.3], len(names)).tolist()),
            separators=int(random.integers(0, 3)),
            seed=seed,
        )
        sequence = int(random.choice(_SEQUENCES))
        budget = max(1, int(found.tokens.sum() * random.uniform(0.02, 2.5)) // sequence) * sequence
        return Case(here, _rules(random, grid), budget, sequence)

    def solve(self, found: Survey) -> Solution | None:
        """Find quotas of the budget, or of the largest that there is; None if there is none."""
        supply = found.supply()
        try:
            return solve(self.rules, supply, self.budget, self.sequence)
        except ShortageError as error:
            largest = largest_budget(self.rules, supply, self.budget, self.sequence)
            said = f"budget: {largest} (the largest" if largest else "no budget at all"
            if said not in str(error):
                raise
        return solve(self.rules, supply, largest, self.sequence) if largest else None


def _rules(random: np.random.Generator, grid: Grid) -> Mix:
    named: dict[str, Any] = {}
    split = random.dirichlet(np.ones(len(grid.domains)))
    for name, share, edges in zip(grid.domains, split.tolist(), grid.edges, strict=True):
        buckets = len(edges) + 1
        forms: list[dict[str, Any]] = [{}, {"factors": random.uniform(0.1, 5, buckets).tolist()}]
        forms.append({"shares": random.dirichlet(np.ones(buckets)).tolist()})
        if edges:
            forms.append({"threshold": int(random.choice(edges)), "long": float(random.random())})
        caps: list[Any] = [1, 4, float(random.uniform(0.3, 5)), random.uniform(0.3, 5, buckets).tolist()]
        caps.append({"document": int(random.integers(1, 4)), "domain": float(random.uniform(0.5, 3))})
        pick = (forms[random.integers(len(forms))], caps[random.integers(len(caps))])
        named[name] = {"share": share, "lengths": pick[0], "max_epochs": pick[1]}
    if random.random() < 0.5:
        for entry in named.values():
            del entry["share"]
    return mix(domains=named, on_shortage=str(random.choice(["error", "repeat", "redistribute"])))


def _held_to_caps(case: Case, found: Survey, solution: Solution, times: Counts) -> None:
    """Check documents, cells and domains against the caps as the recipe says them."""
    grid, supply = case.here.pool.grid, found.supply()
    candidates = case.here.look()
    inside = candidates.cell >= 0
    cell = candidates.cell[inside]
    drawn = times[inside] > 0
    assert ((times + candidates.seen)[inside][drawn] <= solution.limits.documents[cell][drawn]).all()
    if case.rules.on_shortage == "repeat":
        return
    total = solution.granted + supply.used
    for d, name in enumerate(grid.domains):
        caps, span = case.rules.caps(name), grid.span(d)
        for bucket, c in enumerate(range(span.start, span.stop)):
            assert not solution.granted[c] or total[c] <= caps.of_cell(bucket) * supply.tokens[c] + 1e-6
        if caps.domain is not None and solution.granted[span].any():
            assert total[span].sum() <= caps.domain * supply.tokens[span].sum() + 1e-6


def _moved_by_no_other_domain(here: World, thresholds: tuple[Threshold, ...], quota: Counts, folder: Path) -> None:
    """Law 4: add a domain, leave the quotas of the others as they are, and draw again."""
    if here.pool.earlier:
        return
    there = here.joined(folder, "d1a", documents(np.random.default_rng(1), ["d1a"], 40, alike=False, seen=0))
    found, span = there.survey(), there.pool.grid.span(there.pool.grid.domains.index("d1a"))
    more = np.concatenate([quota[: span.start], found.supply().tokens[span] // 2, quota[span.start :]])
    after = there.draw(found, more).thresholds
    assert (*after[: span.start], *after[span.stop :]) == thresholds


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_250_random_problems_are_drawn_to_the_token_within_their_caps(tmp_path: Path, part: int) -> None:
    """1,000 in all; a third of them with a second phase, which goes on from the first, a fifth with a domain more."""
    fates: Counter[str] = Counter()
    for seed in range(250 * part, 250 * part + 250):
        case = Case.make(tmp_path, seed)
        seen = case.here.documents.seen * (case.here.pool.seen is not None)
        for phase in range(1 + (seed % 3 == 0)):
            found = case.here.survey()
            solution = case.solve(found)
            fates[f"phase {phase}: {'solved' if solution else 'refused'}"] += 1
            if solution is None:
                break
            thresholds = case.here.draw(found, solution.granted).thresholds
            times = check(case.here, thresholds, solution.granted, seen)
            _held_to_caps(case, found, solution, times)
            if seed % 5 == 1:
                _moved_by_no_other_domain(case.here, thresholds, solution.granted, tmp_path / "more")
            seen = seen + times
            case = replace(case, here=case.here.after(thresholds))
    assert fates["phase 0: solved"] > 170
    assert fates["phase 1: solved"] > 30


def _solvable(folder: Path, seed: int) -> tuple[Case, Survey, Solution]:
    """Make the next case that has quotas."""
    while True:
        case = Case.make(folder, seed)
        found = case.here.survey()
        solution = case.solve(found)
        if solution is not None:
            return case, found, solution
        seed += 1000


@pytest.mark.parametrize("seed", range(2000, 2030))
def test_every_appearance_stands_once_in_the_stream_and_cells_are_exact(tmp_path: Path, seed: int) -> None:
    case, found, solution = _solvable(tmp_path, seed)
    here, docs = case.here, case.here.documents
    drawn = here.draw(found, solution.granted)
    seen = docs.seen * (here.pool.seen is not None)
    times = check(here, drawn.thresholds, solution.granted, seen)
    layout = Slicing(1 << seed % 4, here.pool.separators // 2, here.pool.separators - here.pool.separators // 2)
    records = write_slices(drawn, layout, tmp_path, ENGINE, Silence(), 100)
    tables = [read_parquet(tmp_path / f"slice-{number:05d}.parquet") for number in range(layout.count)]
    cells = sum(grid_tokens(table, here.pool.grid) for table in tables)
    assert cells.tolist() == solution.granted.tolist()
    # Copies of a document are numbered on from those that appeared before; equal texts share the numbers.
    stands = Counter(
        (hi, lo, domain, copy)
        for table in tables
        for hi, lo, domain, copy in zip(
            *(words.tolist() for words in id_words(table["doc_id"])),
            table["domain"].to_pylist(),
            table["copy"].to_pylist(),
            strict=True,
        )
    )
    columns = (docs.hi, docs.lo, docs.domain, docs.occurrence, docs.occurrences)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    expected = Counter(
        (*rows[n][:3], epoch * rows[n][4] + rows[n][3])
        for n in np.flatnonzero(times)
        for epoch in range(int(seen[n]), int(seen[n] + times[n]))
    )
    assert stands == expected
    for number, (record, table) in enumerate(zip(records, tables, strict=True)):
        size = schemas.numbers(table["doc_stop"]) - schemas.numbers(table["doc_start"])
        assert (record["tokens"], record["rows"]) == (size.sum(), len(table))
        assert schemas.numbers(table["position"]).tolist() == (np.cumsum(size) - size).tolist()
        for hi, copy in zip(id_words(table["doc_id"])[0].tolist(), table["copy"].to_pylist(), strict=True):
            ranges = id_ranges(number, layout.count, copy, here.pool.seed)
            assert any(first <= hi < stop for first, stop in ranges)
    starts = np.cumsum([0, *(record["tokens"] for record in records)]).tolist()
    third = starts[-1] // 3
    parts = [(first, stop) for first, stop in ((0, third), (third, starts[-1])) if first < stop]
    read = [grid_tokens(read_stretch(tmp_path, starts, *part), here.pool.grid) for part in parts]
    assert sum(read).tolist() == solution.granted.tolist()
