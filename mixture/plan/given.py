"""What a plan is told besides its recipe: what was already trained on, a plan to follow, a scale.

It is kept in the lock, so that `pack` makes the same plan again without being told.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from mixture import ledger, lockfile
from mixture.errors import LockError, PlanError, nearest
from mixture.hashing import fingerprint
from mixture.ledger import Consumed
from mixture.lockfile import Lock
from mixture.pack import Ints
from mixture.pack.shuffle import taken
from mixture.plan.window import windows
from mixture.storage import Place, as_place

_AT = re.compile(r"(?P<lock>.+\.json)@(?:(?P<phase>[A-Za-z0-9][A-Za-z0-9._-]*):)?(?P<sequence>[\d_,]+|end)")


@dataclass(frozen=True)
class Seen:
    """A stretch of a stream that was trained on: its first sequences.

    Attributes:
        lock: name of the recipe whose stream it was, with its phase.
        digest: names the plan.
        sequences: how many of its sequences, from the first.
        tokens: tokens of the stream, from the first, whose documents all were begun.
        within: how the window behind those is laid out, and how many of its first sequences were seen, where the
            packing does not lay the stream end to end: `rules, window, stretch, sequences`; empty otherwise.
        layout: names how the stream is laid out: packings share a plan, and what one shows of it another does not.
        order: where a trainer shuffled the sequences, in which order `sequences` are the first (`window, seed, group,
            total`, see `mixture.pack.shuffle`); `prefix`: how many of the stream's first were taken without a gap;
            `rules, size, stream`: how it is laid out, the tokens of a window, and of all; `number, first`: the first
            window that is not covered by `tokens`, and its first sequence. Empty for the stream's own order.
    """

    lock: str
    digest: str
    sequences: int
    tokens: int
    within: dict[str, Any] = field(default_factory=dict)
    layout: str = ""
    order: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it JSON-able; without an order that is the stream's own, as before there were others."""
        value = asdict(self)
        return value if self.order else {name: v for name, v in value.items() if name != "order"}


@dataclass(frozen=True)
class Given:
    """What a plan is told besides its recipe.

    Attributes:
        consumed: what was already trained on.
        like: digests of the plans to follow, phase by phase, and the name of their lock; empty for none.
        scale: a fraction of the budget, as `1/16`; empty for all of it.
        match_repetition: whether the scaled plan draws from as small a share of the documents.
    """

    consumed: tuple[Seen, ...] = ()
    like: tuple[str, ...] = ()
    scale: str = ""
    match_repetition: bool = False

    @property
    def fraction(self) -> Fraction:
        """The scale as a number."""
        return Fraction(self.scale) if self.scale else Fraction(1)

    def to_json(self) -> dict[str, Any]:
        """Return what is not as usual, JSON-able; empty where nothing was given."""
        value = asdict(self) | {"consumed": [seen.to_json() for seen in self.consumed]}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in value.items() if v}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Given:
        """Read what `to_json` wrote."""
        seen = tuple(Seen(**entry) for entry in value.get("consumed", ()))
        return Given(**value | {"consumed": seen, "like": tuple(value.get("like", ()))})


def parse_scale(text: str) -> str:
    """Check a scale given as `1/16` or `0.0625`.

    Raises:
        PlanError: it is no number above 0 and below 1.
    """
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value < 1:
        raise PlanError(f"--scale {text}: give a fraction between 0 and 1, for example 1/16")
    return str(value)


def parse_consumed(text: str) -> tuple[Seen, ...]:
    """Read `OLD.lock.json@SEQUENCE`, or `…@PHASE:SEQUENCE`: all before that sequence was trained on; or a ledger.

    Earlier phases were trained on as a whole, and so was what the old lock itself had been told. A ledger says of each
    phase how much was trained on, and in which order.

    Raises:
        LockError: there is no such lock or ledger.
        PlanError: it has no such phase or sequence.
    """
    match = _AT.fullmatch(text)
    if match is None:
        return _of_ledger(text)
    lock = require(as_place(match["lock"]))
    names = [phase["name"] for phase in lock.phases]
    name = match["phase"] or ""
    if name not in names:
        known = nearest(name, names) if name else f"it has the phases {', '.join(names)}: write @PHASE:SEQUENCE"
        raise PlanError(f"--consumed {text}: {match['lock']} has no phase {name!r}; {known}")
    at = names.index(name)
    earlier = [_seen(lock, n, None, text) for n in range(at)]
    count = None if match["sequence"] == "end" else int(re.sub(r"[_,]", "", match["sequence"]))
    return _with_before(lock, [*earlier, _seen(lock, at, count, text)])


def _with_before(lock: Lock, seen: Iterable[Seen]) -> tuple[Seen, ...]:
    """Return what was seen of a lock's streams, after what it had been told itself."""
    return (*Given.from_json(lock.given).consumed, *(entry for entry in seen if entry.sequences))


def _ledger_place(text: str) -> Place:
    """Return where the ledger lies that an option names.

    Raises:
        PlanError: it names none, nor a lock.
    """
    if not text.endswith(".json") or text.endswith(".lock.json"):
        raise PlanError(
            f"--consumed {text}: write OLD.lock.json@SEQUENCE, the number of sequences trained on (or @end), "
            "or OLD.lock.json@PHASE:SEQUENCE, or name the ledger.json of a training run"
        )
    return as_place(text)


def _of_ledger(text: str) -> tuple[Seen, ...]:
    path = _ledger_place(text)
    told = ledger.read(path)
    _, lock = ledger.lock_of(told, path)
    seen = []
    for number, entry in enumerate(told.phases):
        prefix, others = taken_first(asdict(entry))
        # The first n of an order are often the first n of the stream: it was not shuffled, or whole windows were taken.
        seen.append(_shuffled(lock, number, entry, prefix, text) if len(others) else _seen(lock, number, prefix, text))
    return _with_before(lock, seen)


def named_lock(text: str) -> Place:
    """Return the lock that `--consumed` names, by itself or through a ledger; see `parse_consumed`."""
    match = _AT.fullmatch(text)
    if match is not None:
        return as_place(match["lock"])
    path = _ledger_place(text)
    return ledger.lock_of(ledger.read(path), path)[0]


def taken_first(order: Mapping[str, Any]) -> tuple[int, Ints]:
    """Return which sequences are the first of an order: all before one of them, and others, rising, int64, shape (n,).

    Args:
        order: `sequences`, how many of `total`, and `window`, `seed`, `group`, see `mixture.pack.shuffle`.
    """
    count, total, group = order["sequences"], order["total"], order["group"]
    # Windows before the last one that was begun were taken as a whole.
    window = -(-order["window"] // group) * group
    whole = count // window * window if 0 < window < total else 0
    numbers = np.sort(taken(total, order["window"], order["seed"], whole, count, group))
    prefix = int((numbers == np.arange(whole, count)).sum())
    return whole + prefix, numbers[prefix:]


def _shuffled(lock: Lock, phase: int, entry: Consumed, prefix: int, text: str) -> Seen:
    """Return what the first sequences of a shuffled phase are.

    Args:
        lock: whose phase it is.
        phase: which.
        entry: what a ledger says of it.
        prefix: how many sequences from the stream's first were taken without a gap.
        text: of the option.
    """
    before, cut = _seen(lock, phase, prefix, text), windows(lock, phase)
    ends = [0, *itertools.accumulate(shard["sequences"] for shard in lock.phases[phase]["shards"])]
    number = before.within["window"] if before.within else before.tokens // cut.size
    order = {name: getattr(entry, name) for name in ("window", "seed", "group", "total")}
    laid = {"rules": cut.rules.to_json(), "size": cut.size, "stream": cut.tokens}
    first = {"prefix": prefix, "number": number, "first": ends[number]}
    return replace(before, sequences=entry.sequences, within={}, order=order | laid | first)


def _seen(lock: Lock, phase: int, count: int | None, text: str) -> Seen:
    """Return what the first sequences of a phase are; all of them where no count is given.

    Raises:
        PlanError: it has fewer, or nobody knows where they lie.
    """
    stream, cut = lock.phases[phase]["stream"], windows(lock, phase)
    held = [shard["sequences"] for shard in lock.phases[phase]["shards"]]
    most = sum(held) if held else stream["sequences"]
    wanted = most if count is None else count
    if wanted > most:
        raise PlanError(f"--consumed {text}: {wanted:,} sequences, but that stream has {most:,}")
    name, layout = label(lock.name, lock.phases[phase]["name"]), fingerprint(cut.rules.to_json())
    if count is None:
        return Seen(name, stream["digest"], most, stream["tokens"], layout=layout)
    if cut.rules.tiles:
        return Seen(name, stream["digest"], wanted, wanted * cut.rules.length, layout=layout)
    if not held:
        raise PlanError(
            f"--consumed {text}: it is not packed, and with packing {cut.rules.packing.kind} only packing tells where "
            "a sequence lies; run `mixture pack` of its recipe first"
        )
    ends = list(itertools.accumulate(held))
    number = bisect.bisect_right(ends, wanted)
    first = number * cut.size
    if first >= cut.tokens:
        return Seen(name, stream["digest"], wanted, cut.tokens, layout=layout)
    inside = wanted - (ends[number - 1] if number else 0)
    stretch = list(cut.stretch(number))
    within = {"rules": cut.rules.to_json(), "window": number, "stretch": stretch, "sequences": inside}
    return Seen(name, stream["digest"], wanted, first, within if inside else {}, layout)


def merged(entries: Iterable[Seen]) -> tuple[Seen, ...]:
    """Return each order of each stream once: of two stretches from its beginning, the longer holds the other."""
    longest: dict[tuple[str, ...], Seen] = {}
    for entry in entries:
        order = [str(entry.order.get(name, "")) for name in ("window", "seed", "group")]
        key = (entry.digest, entry.layout, *order)
        held = longest.get(key)
        if held is None or held.sequences < entry.sequences:
            longest[key] = entry
    return tuple(longest.values())


def require(path: Place) -> Lock:
    """Read a lock that an option names.

    Raises:
        LockError: there is none.
    """
    lock = lockfile.read(path)
    if lock is None:
        raise LockError(f"{path}: no such lock; check the name")
    return lock


def label(recipe: str, phase: str) -> str:
    """Return what a phase's folders are called."""
    return f"{recipe}-{phase}" if phase else recipe
