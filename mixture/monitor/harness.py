"""Results of lm-evaluation-harness as rows of the long table, as its files are.

    olmo/step1000-tokens4B/results_2026-01-30T10-00-00.json                          Measure
    {"results": {"arc_easy": {"acc,none": 0.61, "acc_stderr,none": 0.01}},     →     model olmo, step 1000, tokens 4e9
     "n-samples": {"arc_easy": {"original": 2376, "effective": 2376}}, …}            arc_easy acc 0.61 (0.59 … 0.63)

The harness gives a standard error; the interval is the normal one around it, within 0 and 1 for shares. A metric behind
another filter than `none` keeps it in its name: `exact_match,strict-match`. The files of versions before 0.4, without
filters, are read as well. They know nothing of training: step and tokens are given, or read off the model's revision,
its name or the path.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from mixture.errors import MonitorError
from mixture.monitor.measures import Measure
from mixture.storage import explain

LEVEL = "harness"
#: Metrics that are shares of samples, between 0 and 1 where their value is.
_SHARES = ("acc", "exact_match", "em", "f1", "pass@", "pass_at", "contains", "score")
_NORMAL = float(stats.norm.ppf(0.975))
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
#: step-2000, global_step2000, checkpoint-2000, iter_0002000, ckpt_100; a letter before is another word.
_STEP = re.compile(
    r"(?<![a-z])(?:global_?)?(?:steps?|iter|iteration|checkpoint|ckpt)[-_=]?(\d+(?:\.\d+)?)([KMBT]?)(?![a-z\d])",
    re.IGNORECASE,
)
#: tokens4B, 4B-tokens, train_00220B. A bare 7B is the size of a model, but where a step stands before it, or alone.
_TOKENS = re.compile(
    r"(?:tokens?|train)[-_=]?(?P<a>\d+(?:\.\d+)?[KMBT])(?![a-z\d])"
    r"|(?<![a-z\d.])(?P<b>\d+(?:\.\d+)?[KMBT])[-_ ]?tokens?(?![a-z\d])"
    r"|^(?P<c>\d+(?:\.\d+)?[KMBT])$"
    r"|(?:steps?|iter|checkpoint|ckpt)[-_=]?\d+[KM]?[-_](?P<d>\d+(?:\.\d+)?[KMBT])(?![a-z\d])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class When:
    """Where in its training a model is.

    Attributes:
        step: training steps done, None where unknown.
        tokens: tokens trained on, None where unknown.
    """

    step: int | None = None
    tokens: int | None = None


def read_harness(
    place: Path,
    *,
    model: str | None = None,
    when: Mapping[str, When] | None = None,
    domains: Mapping[str, str] | None = None,
) -> list[Measure]:
    """Read a result file, or all in a folder and its folders, the oldest first.

    Of a checkpoint's task that was evaluated twice, the later evaluation stands last, and so in the table.

    Args:
        place: `results_….json` or a folder.
        model: what tables call the model; by default its name without what says where in its training it is.
        when: by the model's name, or its folder's, as the harness has it; by default it is read off names.
        domains: by task; by default the group that the task is in, as `mmlu_stem`.

    Raises:
        MonitorError: there is none, or a file is no result of the harness.
    """
    files = sorted(place.rglob("results*.json")) if place.is_dir() else [place]
    if not files:
        raise MonitorError(f"{place}: no results_*.json in it; give what lm_eval got as --output_path")
    loaded = sorted(((_load(file), file) for file in files), key=lambda one: (_date(one[0]), one[1]))
    rows: list[Measure] = []
    for result, file in loaded:
        # Absolute: of a file that lies here the folder has a name, too.
        own, whole = file.absolute().parent, place.absolute()
        folders = own.relative_to(whole.parent).parts if place.is_dir() else own.parts[-3:]
        name, at = _who(result, folders, when or {})
        rows += _measures(result, model or name, at, domains or {})
    return rows


def _date(result: Mapping[str, Any]) -> float:
    found = result.get("date")
    return float(found) if isinstance(found, int | float) else 0.0


def _load(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())  # the harness writes NaN, which stricter readers refuse
    except FileNotFoundError as error:
        raise MonitorError(f"{file}: there is no such file; give a results_*.json of lm_eval, or a folder") from error
    except OSError as error:
        raise MonitorError(explain(error, file)) from error
    except ValueError as error:
        raise MonitorError(f"{file}: damaged, it is no JSON ({error}); evaluate again, or take it away") from error
    results = value.get("results") if isinstance(value, dict) else None
    if not isinstance(results, dict) or not all(isinstance(one, dict) for one in results.values()):
        raise MonitorError(f"{file}: has no 'results' by task; give a results_*.json as lm_eval writes it")
    return dict(value)


def _measures(result: Mapping[str, Any], name: str, at: When, domains: Mapping[str, str]) -> Iterable[Measure]:
    groups = {task: group for group, tasks in (result.get("group_subtasks") or {}).items() for task in tasks}
    for task, found in result["results"].items():
        for metric, value, error in _values(found):
            low, high = _ends(metric, value, error)
            names = (LEVEL, task.strip(), domains.get(task, groups.get(task, "")), metric)
            samples = _samples(result, task)
            yield Measure(name, at.step, at.tokens, *names, None, None, "", value, low, high, samples)


def _values(found: Mapping[str, Any]) -> Iterable[tuple[str, float, float]]:
    """Yield metrics with their values and standard errors, 0 where there is none."""
    for key, value in found.items():
        metric, _, kind = key.partition(",")
        if metric.endswith("_stderr") or metric in ("alias", "name", "sample_len", "samples"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        error = found.get(f"{metric}_stderr,{kind}" if kind else f"{metric}_stderr")
        known = isinstance(error, int | float) and math.isfinite(error) and error > 0
        yield (metric if kind in ("", "none") else key), float(value), float(error) if known else 0.0  # type: ignore[arg-type]


def _ends(metric: str, value: float, error: float) -> tuple[float, float]:
    low, high = value - _NORMAL * error, value + _NORMAL * error
    share = metric.startswith(_SHARES) and 0 <= value <= 1
    return (max(low, 0.0), min(high, 1.0)) if share else (low, high)


def _samples(result: Mapping[str, Any], task: str) -> int:
    """Return the samples behind a task, or behind the tasks of a group; 1 where the file does not say."""
    counted = result.get("n-samples") or {}
    if isinstance(counted.get(task), dict):
        return max(1, int(counted[task].get("effective") or 1))
    below = (result.get("group_subtasks") or {}).get(task) or ()
    if below:
        return max(1, sum(_samples(result, one) for one in below))
    own = result["results"].get(task, {})
    return max(1, int(own.get("sample_len") or own.get("samples") or 1))


def _who(result: Mapping[str, Any], folders: Sequence[str], when: Mapping[str, When]) -> tuple[str, When]:
    """Return the model's name, without its place in training, and that place."""
    config = result.get("config") or {}
    told = config.get("model_args") or ""
    given = told if isinstance(told, dict) else dict(part.split("=", 1) for part in str(told).split(",") if "=" in part)
    full = str(result.get("model_name") or given.get("pretrained") or given.get("model") or folders[-1])
    parts = [str(given.get("revision") or ""), *reversed(full.replace("__", "/").split("/")), *reversed(folders)]
    name = _plain(full)
    for key in (full, full.rpartition("/")[2], folders[-1]):
        if key in when:
            return name, when[key]
    steps = [found for part in parts if (found := _STEP.search(part))]
    tokens = [found for part in parts if (found := _TOKENS.search(part))]
    step = int(float(steps[0][1]) * _UNITS[steps[0][2].upper()]) if steps else None
    return name, When(step, _count(tokens[0]) if tokens else None)


def _count(found: re.Match[str]) -> int:
    text = next(text for text in found.groups() if text)
    return round(float(text[:-1]) * _UNITS[text[-1].upper()])


def _plain(full: str) -> str:
    """Return a model's name for all its checkpoints: runs/tiny/checkpoints/step-2000 → tiny."""
    for part in reversed([part for part in full.replace("__", "/").split("/") if part]):
        rest = re.sub(r"^[-_.]+|[-_.]+$", "", _STEP.sub("", _TOKENS.sub("", part)))
        if rest and rest.lower() not in ("checkpoints", "checkpoint", "export", "hf", "main", "weights"):
            return rest
    return full
