"""A run's own monitor: what `mixture train` calls between two steps, and what it answers.

    checkpoint ─ Session.examine ─▶ rows in OUT/monitor ─┬─ scalars, for events and boards
                                                         └─ gates ─▶ stay, advance or stop, and why

What is decided follows from the rows up to that step alone: a run that is killed and started again decides the same,
and what was measured already is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mixture.errors import ConfigError
from mixture.monitor.codec import open_codec
from mixture.monitor.exam import StoppedError
from mixture.monitor.gates import Decision, advance, stop
from mixture.monitor.material import Source
from mixture.monitor.measures import Measure
from mixture.monitor.results import Results
from mixture.monitor.saturation import saturation
from mixture.monitor.session import Session, sitting_of
from mixture.monitor.suite import FORM, Suite
from mixture.trace import Trace
from mixture.train.examining import Finding
from mixture.train.rules import GateRule, MonitorRule
from mixture.train.run import Run
from mixture.workspace import Workspace

Say = Callable[[str], None]

#: The folder of results, in the run's.
FOLDER = "monitor"


class InTraining:
    """Examines the checkpoints of a run, in its process; see `mixture.train.examining.Examine`.

    Args:
        run: the run; its config has a monitor.
        longest: places of its longest sequences: the grid goes so far from the first examination on.
        device: where it computes.
        workspace: where its lock's index, plans and store lie.
        say: is told what happens.

    Raises:
        ConfigError: the config has no monitor.
        MonitorError: suite, text and model do not go together.
        StoreError: what the lock speaks of is not in the work directory.
    """

    def __init__(self, run: Run, longest: int, device: torch.device, workspace: Workspace, say: Say) -> None:
        rule = run.config.monitor
        if rule is None:
            raise ConfigError("monitor: the config has none; write when it is to examine, as {every: 500 steps}")
        self._gates = rule.gates
        suite = suite_of(rule).model_copy(update={"device": str(device)})
        self._suite, self._results = suite, Results(run.out / FOLDER)
        self._asked: Callable[[], bool] = lambda: False
        codec = open_codec(Path(rule.tokenizer) if rule.tokenizer else run.out)
        source = Source(suite.text, [Trace(run.lock, workspace)])
        self._session = Session(self._results, suite, source, tokenizer=codec, say=say, stop=self._asks, beyond=True)
        self._session.prepare(codec, longest)

    def _asks(self) -> bool:
        return self._asked()

    def __call__(self, checkpoint: Path, *, length: int, stop: Callable[[], bool]) -> Finding:
        """Examine a checkpoint, and decide; see `mixture.train.examining.Examine`."""
        self._asked = stop
        try:
            self._session.examine(checkpoint)
        except StoppedError:
            return Finding({}, abandoned=True)
        sitting = sitting_of(checkpoint)
        rows = [
            row
            for row in self._results.measures()
            if row.model == sitting.model and row.step is not None and row.step <= (sitting.step or 0)
        ]
        decision = decided(rows, self._gates, self._suite, length)
        now = [row for row in rows if row.step == sitting.step]
        return Finding(scalars(now), decision.action, decision.reason if decision.action != "stay" else "")


def suite_of(rule: MonitorRule) -> Suite:
    """Return the suite that a config names, with its files of text.

    Raises:
        MonitorError: the file is no suite.
    """
    suite = FORM.load(Path(rule.suite)) if rule.suite else Suite()
    if rule.text:
        suite = suite.model_copy(update={"text": suite.text.model_copy(update={"files": rule.text})})
    return suite


def scalars(rows: Sequence[Measure]) -> dict[str, float]:
    """Return the measures over the whole grid by a name for curves: `niah score`, `holdout loss (books)`."""
    whole = [row for row in rows if row.whole]
    return {f"{row.task} {row.metric}" + (f" ({row.domain})" if row.domain else ""): row.value for row in whole}


def decided(rows: Sequence[Measure], gates: GateRule, suite: Suite, length: int) -> Decision:
    """Return what gates say of the last of some checkpoints of a run.

    Args:
        rows: the run's, up to that checkpoint.
        gates: which are asked.
        suite: its least gains that count.
        length: places of a sequence that is trained on.
    """
    found = Decision("stay", "no gate was asked")
    if gates.stop and rows:
        found = stop(saturation(rows, model=rows[0].model, epsilon=suite.epsilons))
    if gates.advance and found.action == "stay":
        # The longest column that sequences of this phase reach.
        columns = {row.length for row in rows if (row.task, row.metric) == ("niah", "score") and row.length}
        reached = max((column for column in columns if column <= length), default=length)
        found = advance(rows, length=reached, margin=gates.margin, perfect=gates.perfect)
    return found
