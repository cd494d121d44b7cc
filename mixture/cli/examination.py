"""What `mixture monitor` does, in its order: locks, suite, checkpoints, page, facts, and what is said in the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixture.cli.common import Watch, named_lock
from mixture.cli.where import Where
from mixture.errors import LockError, MonitorError, nearest

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mixture.lockfile import Lock
    from mixture.monitor.exam import Exam
    from mixture.monitor.measures import Measure
    from mixture.monitor.suite import Suite
    from mixture.monitor.verdicts import Saturation
    from mixture.trace import Trace

#: The folder of results, in a run's folder and elsewhere.
FOLDER = "monitor"
_NEEDED = ("torch", "transformers", "safetensors", "scipy", "statsmodels")


def usual_folder(places: Sequence[Path], *, follow: bool) -> Path:
    """Return where results go unless it is said: into the run's folder where all places lie in one."""
    if follow:
        return places[0] / FOLDER
    if not places:
        return Path(FOLDER)
    _need()
    from mixture.monitor.session import run_of

    runs = {run_of(place) for place in places}
    run = runs.pop() if len(runs) == 1 else None
    if run is None:
        return Path(FOLDER)
    # As it was given, where it was: no absolute path of a relative one.
    return next((place for place in places if place.resolve() == run), run) / FOLDER


class Examination:
    """One call of `mixture monitor`.

    Args:
        folder: of results.
        where: work directory, data root, engine.
        locks: that the command line names.
        watch: shows progress.
        page: whether a page is drawn.
    """

    def __init__(self, folder: Path, where: Where, locks: Sequence[Path], watch: Watch, *, page: bool) -> None:
        self._folder, self._where, self._watch, self._page = folder, where, watch, page
        self._locks: list[Lock] = [named_lock(path) for path in locks]
        self._suite: Suite | None = None
        self._examined: list[dict[str, Any]] = []
        self._drawn: Path | None = None
        self._told: dict[str, Any] = {}
        self._pictures: list[RenderableType] = []
        if page:
            from mixture.report.monitor_figures import require

            require()

    def add_harness(self, files: Sequence[Path]) -> None:
        """Put what another program measured into the table.

        Raises:
            MonitorError: a file is none of its results.
        """
        _need()
        from mixture.monitor.harness import read_harness
        from mixture.monitor.measures import write

        for file in files:
            rows = read_harness(file)
            write(rows, self._folder)
            self._watch.say(f"{file}: {len(rows):,} measures")

    def examine(
        self,
        places: Sequence[Path],
        suite: Path | None,
        texts: Sequence[Path],
        levels: str,
        tokenizer: Path | None,
        *,
        follow: bool,
    ) -> None:
        """Examine what was not examined yet, and write it down.

        Args:
            places: models, checkpoints, and folders of runs.
            suite: a suite's file; by default the suite that the folder knows, or the usual one.
            texts: files of text, instead of the suite's.
            levels: only these, by name and comma.
            tokenizer: file of every model's tokenizer.
            follow: wait for a run's next checkpoints.

        Raises:
            MonitorError: something cannot be examined; what was examined before stays.
            StoreError: a file is damaged, or cannot be written.
        """
        _need()
        from mixture.monitor.follow import follow as follow_run
        from mixture.monitor.follow import wait_for_first
        from mixture.monitor.material import Source
        from mixture.monitor.results import Results
        from mixture.monitor.session import Session, examine_or_skip, places_of

        say = self._watch.say
        asked = self._suite = _suite(Results(self._folder).written(), suite, texts, levels)
        if follow:
            wait_for_first(places[0], say)
        found = [one for place in places for one in places_of(place)]
        source = Source(asked.text, self._traces(places))
        session = Session(Results(self._folder), asked, source, tokenizer=tokenizer, say=say)
        if follow:
            follow_run(session, places[0], say, examined=self._note)
            return
        for one in found:
            exam = examine_or_skip(session, one, say)
            if exam is not None:
                self._note(exam, draw=False)
        if not self._examined:
            say(f"{self._folder}: nothing to do, all {len(found)} were examined before")

    def _note(self, exam: Exam, *, draw: bool = True) -> None:
        """Keep what is told of a checkpoint in the end, and draw the page anew where somebody may be looking."""
        row = exam.measures[0] if exam.measures else None
        if row is not None:
            self._examined.append({"model": row.model, "step": row.step, "tokens": row.tokens, "seconds": exam.seconds})
        if draw and self._page:
            self._render(*self._judged())

    def _traces(self, places: Sequence[Path]) -> list[Trace]:
        """Open the locks that the models were trained on: those given, and those of runs."""
        from mixture.monitor.session import run_of
        from mixture.trace import Trace
        from mixture.workspace import Workspace

        for run in dict.fromkeys(run_of(place) for place in places):
            own = sorted(run.glob("*.lock.json")) if run is not None else []
            if len(own) == 1:
                self._locks.append(named_lock(own[0]))
        locks = {lock.fingerprint: lock for lock in self._locks}
        return [Trace(lock, Workspace(self._where.work, self._where.data)) for lock in locks.values()]

    def cover(self, pairs: Path) -> None:
        """Count facts in the mixture, and write the tables.

        Raises:
            LockError: no lock says which mixture.
            MonitorError: the file is none of facts.
        """
        if not self._locks:
            raise LockError("--coverage counts facts in a mixture; name its lock with --lock, or give its run's folder")
        from mixture.monitor.coverage import coverage
        from mixture.monitor.coverage_pairs import read_pairs
        from mixture.report.coverage import coverage_table
        from mixture.workspace import Workspace

        facts = read_pairs(pairs)
        with self._where.engine(self._watch.say) as engine:
            found = coverage(self._locks[0], Workspace(self._where.work, self._where.data), facts, engine, self._watch)
        found.write(self._folder)
        self._told["coverage"] = found.pairs.to_dicts()
        self._pictures += coverage_table(found)

    def summary(self, *, as_json: bool) -> tuple[dict[str, Any], list[RenderableType]]:
        """Draw the page, and return what is said: for machines, and for people.

        Raises:
            MonitorError: the table is damaged.
        """
        rows, verdicts = self._judged()
        told: dict[str, Any] = {"out": str(self._folder), "examined": self._examined, "measures": len(rows)}
        if rows and self._page:
            self._render(rows, verdicts)
        told["page"] = None if self._drawn is None else str(self._drawn)
        told["verdicts"] = {
            one.model: {level.level: level.state for level in one.levels} | {"words": list(one.words)}
            for one in verdicts
        }
        moved = self._dynamics(rows, verdicts)
        return told | self._told, [] if as_json else [*self._tables(rows, verdicts, moved), *self._pictures]

    def _dynamics(self, rows: Sequence[Measure], verdicts: Sequence[Saturation]) -> list[str]:
        """Describe the curves of every model that is judged, and write that down; return it in words."""
        if not verdicts:
            return []
        from mixture.monitor.dynamics import dynamics
        from mixture.report.monitor_dynamics import dynamics_json, dynamics_words
        from mixture.storage import write_json

        found = [dynamics(rows, model=one.model) for one in verdicts]
        write_json(self._folder / "dynamics.json", {"models": [dynamics_json(one) for one in found]})
        judged = {curve.curve.name for one in verdicts for level in one.levels for curve in level.curves}
        return [line for one in found for line in dynamics_words(one, judged)]

    def _judged(self) -> tuple[list[Measure], list[Saturation]]:
        """Read the table, and judge every model of which several checkpoints are in it."""
        if not any(self._folder.glob("metrics.*")):
            return [], []
        from mixture.monitor.measures import read
        from mixture.monitor.saturation import saturation

        rows = read(self._folder)
        steps: dict[str, set[int]] = {}
        for row in rows:
            if row.step is not None and row.level != "harness":
                steps.setdefault(row.model, set()).add(row.step)
        epsilon = self._suite.epsilons if self._suite is not None else {}
        return rows, [saturation(rows, model=name, epsilon=epsilon) for name, at in steps.items() if len(at) > 1]

    def _render(self, rows: Sequence[Measure], verdicts: Sequence[Saturation]) -> None:
        from mixture.report.monitor_page import render

        models = list(dict.fromkeys(row.model for row in rows))
        title = models[0] if len(models) == 1 else f"{len(models)} models"
        self._drawn = render(rows, verdicts, self._folder, title=f"{title}: monitor")

    def _tables(
        self, rows: Sequence[Measure], verdicts: Sequence[Saturation], moved: Sequence[str]
    ) -> list[RenderableType]:
        if not rows:
            return []
        from mixture.report.monitor_table import monitor_table

        said = [sentence for one in verdicts for sentence in _spoken(one, several=len(verdicts) > 1)]
        where = f"{self._folder}: {len(rows):,} measures" + (f"; the page is {self._drawn}" if self._drawn else "")
        return [*monitor_table(rows), *said, *moved, where]


def _suite(known: Suite | None, file: Path | None, texts: Sequence[Path], levels: str) -> Suite:
    """Return what is asked: the file's suite, else the folder's own, else the usual one; and what options change.

    Raises:
        MonitorError: the file is no suite, or a level has no such name.
    """
    from mixture.monitor.suite import FORM, LEVELS, Suite

    found = FORM.load(file) if file is not None else known or Suite()
    if texts:
        rule = found.text.model_copy(update={"files": tuple(map(str, texts))})
        found = found.model_copy(update={"text": rule})
    asked = [name.strip() for name in levels.split(",") if name.strip()]
    for name in asked:
        if name not in LEVELS:
            raise MonitorError(f"--levels {name}: no such level; {nearest(name, LEVELS)} (known: {', '.join(LEVELS)})")
    return found.model_copy(update={"levels": tuple(name for name in LEVELS if name in (asked or found.levels))})


def _spoken(verdict: Saturation, *, several: bool) -> list[str]:
    """Return verdicts as lines, with what is behind each."""
    lines = [f"{verdict.model}:"] if several else []
    for level in verdict.levels:
        lines += [level.words, *(f"  {curve.words}" for curve in level.curves)]
    return [*lines, *verdict.words[len(verdict.levels) :]]


def _need() -> None:
    from importlib.util import find_spec

    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MonitorError(f"examining needs {', '.join(missing)}, not installed here: pip install 'mixture[monitor]'")
