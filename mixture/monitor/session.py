"""A monitor at work: checkpoints in, one after the other, each examined once; rows and scores out.

    session = Session(Results(out), suite, Source(suite.text, traces), tokenizer=None, say=print)
    for place in places_of(Path("runs/tiny")):
        session.examine(place)                  opens it, asks what it was not asked yet, writes it down

The first model that is examined fixes the grid (`laid`), and the text is made once for each vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mixture.errors import MonitorError, StoreError
from mixture.hashing import fingerprint
from mixture.monitor.codec import Codec, open_codec
from mixture.monitor.exam import Exam, Examiner
from mixture.monitor.laid import check_window, laid
from mixture.monitor.material import Material, Source, material
from mixture.monitor.results import Results, Sitting
from mixture.monitor.subject import Subject, checkpoints_of, name_of, open_subject
from mixture.monitor.suite import Suite

Say = Callable[[str], None]
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_WEIGHTS = ("*.safetensors", "*.bin", "config.json")


class Session:
    """Examines checkpoints for one folder of results.

    Args:
        results: the folder.
        suite: as it was written.
        source: where text comes from.
        tokenizer: file or folder of every model's tokenizer; None where it lies with the model.
        say: is told what happens, sentence by sentence.
        stop: whether an examination is to end early.
        beyond: examine models at the grid's lengths also where their window is shorter: a run's, which grows.
    """

    def __init__(
        self,
        results: Results,
        suite: Suite,
        source: Source,
        *,
        tokenizer: Path | Codec | None,
        say: Say,
        stop: Callable[[], bool] = lambda: False,
        beyond: bool = False,
    ) -> None:
        self._results, self._suite, self._source = results, suite, source
        self._tokenizer, self._say, self._stop, self._beyond = tokenizer, say, stop, beyond
        self._codecs: dict[Path, Codec] = {}
        self._material: dict[str, Material] = {}

    def prepare(self, codec: Codec, window: int) -> tuple[Suite, Material]:
        """Return the suite laid over the first model, and the text in a vocabulary; made and checked where it is new.

        Args:
            codec: the tokenizer.
            window: of the model, where it is the first.

        Raises:
            MonitorError: there is no text, some was trained on, or suite and results do not go together.
            StoreError: what the lock speaks of is not in the work directory.
        """
        found = self._results.suite(self._suite)
        suite = found or laid(self._suite, codec, self._source.haystack(codec), window, self._say)
        key = codec.fingerprint
        if key not in self._material:
            self._material[key] = material(self._source, suite, codec)
        text = self._material[key]
        if found is None:
            self._results.begin(self._suite, suite, {key: text.fingerprint})
        self._results.check_text(key, text.fingerprint)
        return suite, text

    def examine(self, place: Path) -> Exam | None:
        """Examine a checkpoint at the levels that it was not examined at yet; None where there are none.

        Raises:
            MonitorError: it cannot be opened, or not be examined so.
            StoreError: a file of it is damaged, or results cannot be written.
            StoppedError: it was asked to end early.
        """
        sitting = sitting_of(place)
        levels = [level for level in self._suite.levels if level in self._results.missing(sitting, self._suite.levels)]
        if not levels:
            return None
        subject = self._open(place)
        suite, text = self.prepare(subject.tokenizer, subject.window)
        if self._suite.window is None and not self._beyond:
            check_window(suite, subject.window, sitting.label)
        exam = Examiner(subject, suite, text, self._say, self._stop).examine(levels, self._results.before(sitting))
        self._results.add(sitting, exam)
        took = ", ".join(f"{level} {seconds:.1f} s" for level, seconds in exam.seconds.items())
        tokens = "" if subject.tokens is None else f" ({subject.tokens:,} tokens)"
        self._say(f"{sitting.label}{tokens}: {took}; {len(exam.measures):,} measures")
        return exam

    def _open(self, place: Path) -> Subject:
        """Open a model; the tokenizer of a run is the same at all of its checkpoints."""
        run = run_of(place) or place
        codec = self._tokenizer if isinstance(self._tokenizer, Codec) else self._codecs.get(run)
        if codec is None:
            codec = self._codecs[run] = open_codec(self._tokenizer if isinstance(self._tokenizer, Path) else place)
        dtype = _DTYPES.get(self._suite.dtype)
        return open_subject(place, tokenizer=codec, device=self._suite.device, dtype=dtype)


def sitting_of(place: Path) -> Sitting:
    """Return what tells a model's folder or a checkpoint from others, without opening it.

    Raises:
        MonitorError: there is none.
    """
    if not place.is_dir():
        raise MonitorError(
            f"{place}: no such folder; give a model's folder, a checkpoint of `mixture train`, or a run's folder"
        )
    state = place / "state.json"
    if place.name.startswith("step-") and state.is_file():
        # It is sealed, and holds what was trained on until then and how large each file is.
        return Sitting(place, name_of(place), int(place.name.removeprefix("step-")), fingerprint(state.read_text()))
    if not place.name.startswith("step-") and not (place / "config.json").is_file():
        raise MonitorError(
            f"{place}: no model, it has no config.json; give a model's folder, a checkpoint of `mixture train`, or a "
            "run's folder"
        )
    files = sorted(path for pattern in _WEIGHTS for path in place.glob(pattern))
    stamps = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return Sitting(place, name_of(place), None, fingerprint(stamps))


def is_run(place: Path) -> bool:
    """Say whether a folder is one of `mixture train`."""
    return not (place / "config.json").exists() and ((place / "checkpoints").is_dir() or (place / ".run.lock").exists())


def run_of(place: Path) -> Path | None:
    """Return the folder of the run that something lies in: its checkpoint, its export or itself; None for none."""
    own = place.resolve()
    for above in (own, own.parent, own.parent.parent):
        if is_run(above) and (above == own or own.parent in (above, above / "checkpoints")):
            return above
    return None


def places_of(place: Path) -> list[Path]:
    """Return what there is to examine in a place: a run's checkpoints, the oldest first, or the model itself.

    Raises:
        MonitorError: there is nothing.
    """
    if not is_run(place):
        return [place]
    found = checkpoints_of(place)
    if not found:
        raise MonitorError(f"{place}: no checkpoint in it yet; wait for one with --follow")
    return found


def examine_or_skip(session: Session, place: Path, say: Say) -> Exam | None:
    """Examine a checkpoint; of one that is removed meanwhile say so.

    Raises:
        MonitorError: see `Session.examine`, as the others.
        StoreError: as there.
        StoppedError: as there.
    """
    there = place.is_dir()
    try:
        return session.examine(place)
    except (MonitorError, StoreError, OSError):
        if not there or place.is_dir():
            raise
        say(f"{place.name}: was removed before it was examined; raise checkpoints.keep to keep more of them")
        return None
