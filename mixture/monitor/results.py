"""The folder of results: the long table, heads' scores, and who was examined when; so that a monitor goes on.

    OUT/metrics.parquet, metrics.jsonl     the long table
       /suite.json                         what was asked, laid over the first model; later ones are asked the same
       /exams/tiny/step-00000100.json      examined: levels, seconds, from where; written last
       /retrieval/tiny/step-00000100.npz   every head's score in every sample

Rows of a checkpoint are written together, when all of its levels are done, and its record after them. So one that is
killed leaves nothing of the checkpoint under way, or what the next one writes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixture import lockfile
from mixture.errors import MonitorError
from mixture.monitor import heads, measures
from mixture.monitor.exam import Before, Exam
from mixture.monitor.heads import Retrieval
from mixture.monitor.measures import Measure
from mixture.monitor.suite import Suite
from mixture.storage import read_record, write_json

_SUITE = "suite.json"


@dataclass(frozen=True)
class Sitting:
    """A checkpoint as it is told apart from others.

    Attributes:
        place: its folder.
        model: name of the run or model.
        step: training steps done; None where unknown.
        stamp: what tells whether the same place holds other weights.
    """

    place: Path
    model: str
    step: int | None
    stamp: str

    @property
    def label(self) -> str:
        """What people call it: `tiny step 200`."""
        return self.model if self.step is None else f"{self.model} step {self.step:,}"

    @property
    def stem(self) -> str:
        """The name of its files, in its model's folder."""
        return "model" if self.step is None else f"step-{self.step:08d}"


class Results:
    """A folder of results.

    Args:
        folder: is made with the first thing in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def suite(self, asked: Suite) -> Suite | None:
        """Return the suite as it was laid for the first checkpoint, judged and computed as is asked now.

        Args:
            asked: what is asked for now.

        Raises:
            MonitorError: the folder holds measures of another suite.
            StoreError: its record is damaged.
        """
        record = self._noted()
        if record is None:
            return None
        differs = lockfile.changes(record["asked"], asked.what())
        if differs:
            raise MonitorError(
                f"{self.folder}: was measured with another suite ({'; '.join(differs[:3])}), and curves are of one; "
                "give that suite, or another --out"
            )
        names = ("levels", "batch", "device", "dtype", "epsilon")
        laid = Suite.model_validate(record["laid"])
        return laid.model_copy(update={name: getattr(asked, name) for name in names})

    def written(self) -> Suite | None:
        """Return the suite that was asked here before, as it was written; None where nothing was.

        Raises:
            StoreError: its record is damaged.
        """
        record = self._noted()
        return None if record is None else Suite.model_validate(record["written"])

    def _noted(self) -> dict[str, Any] | None:
        return read_record(self.folder / _SUITE, "asked", "written", "laid", "text")

    def begin(self, asked: Suite, laid: Suite, text: dict[str, str]) -> None:
        """Note down what is asked, before the first checkpoint.

        Args:
            asked: the suite as it was written.
            laid: over the first model.
            text: fingerprint of the material, by that of the tokenizer.
        """
        shown = laid.model_dump(mode="json", exclude={"levels", "batch", "device", "dtype", "epsilon"})
        told = {"asked": asked.what(), "written": asked.model_dump(mode="json"), "laid": shown}
        write_json(self.folder / _SUITE, told | {"text": text})

    def check_text(self, tokenizer: str, text: str) -> None:
        """Hold the material to that of earlier examinations, and note it down where it is the first of its tokenizer.

        Raises:
            MonitorError: it is another.
        """
        record = self._noted()
        if record is None:
            return
        known = record["text"].get(tokenizer)
        if known is None:
            write_json(self.folder / _SUITE, record | {"text": record["text"] | {tokenizer: text}})
        elif known != text:
            raise MonitorError(
                f"{self.folder}: was measured with other text (files, hold-out or lock have changed), and curves are "
                "of one; give that text, or another --out"
            )

    def missing(self, sitting: Sitting, levels: Sequence[str]) -> list[str]:
        """Return the levels that a checkpoint was not examined at yet; all of them where its weights are others now.

        Raises:
            MonitorError: another model of its name is in the table.
            StoreError: its record is damaged.
        """
        record = read_record(self._exam(sitting), "place", "stamp", "levels")
        if record is None:
            return list(levels)
        if record["stamp"] == sitting.stamp:
            return [level for level in levels if level not in record["levels"]]
        if record["place"] != str(sitting.place.resolve()) and sitting.step is None:
            raise MonitorError(
                f"{sitting.place}: {self.folder} holds measures of another model named {sitting.model!r}, from "
                f"{record['place']}; give another --out"
            )
        if record["place"] != str(sitting.place.resolve()):
            raise MonitorError(
                f"{sitting.place}: {self.folder} holds measures of step {sitting.step:,} of another run named "
                f"{sitting.model!r}, {record['place']}; give another --out"
            )
        return list(levels)

    def before(self, sitting: Sitting) -> Before:
        """Return the scores of the first checkpoint of the same model, and of the one before.

        Raises:
            MonitorError: a file is damaged.
        """
        files = sorted((self.folder / "retrieval" / sitting.model).glob("step-*.npz"))
        earlier = [file for file in files if file.stem < sitting.stem] if sitting.step is not None else []
        if not earlier:
            return Before()
        return Before(heads.load(earlier[0]), heads.load(earlier[-1]))

    def add(self, sitting: Sitting, exam: Exam) -> None:
        """Write down what a checkpoint came to.

        Raises:
            MonitorError: the table that is there is damaged.
            StoreError: the folder cannot be written.
        """
        if exam.retrieval is not None:
            self._save(sitting, exam.retrieval)
        measures.write(exam.measures, self.folder)
        levels, seconds = list(exam.seconds), {level: round(took, 3) for level, took in exam.seconds.items()}
        record = read_record(self._exam(sitting), "place", "stamp", "levels", "seconds")
        if record is not None and record["stamp"] == sitting.stamp:
            levels = [*record["levels"], *(level for level in levels if level not in record["levels"])]
            seconds = record["seconds"] | seconds
        tokens = exam.measures[0].tokens if exam.measures else None
        self._record(sitting, {"tokens": tokens, "levels": levels, "seconds": seconds})

    def _record(self, sitting: Sitting, told: dict[str, Any]) -> None:
        who = {"model": sitting.model, "step": sitting.step}
        where = {"place": str(sitting.place.resolve()), "stamp": sitting.stamp}
        write_json(self._exam(sitting), who | where | told)

    def _save(self, sitting: Sitting, retrieval: Retrieval) -> None:
        path = self.folder / "retrieval" / sitting.model / f"{sitting.stem}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        retrieval.save(path)

    def _exam(self, sitting: Sitting) -> Path:
        return self.folder / "exams" / sitting.model / f"{sitting.stem}.json"

    def measures(self) -> list[Measure]:
        """Return all rows of the table; none where there is no table.

        Raises:
            MonitorError: it is damaged.
        """
        there = any((self.folder / name).exists() for name in (measures.PARQUET, measures.JSON_LINES))
        return measures.read(self.folder) if there else []
