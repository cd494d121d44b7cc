"""What a dry run shows: jobs that would be handed over now, the batch script, and what later stages would be given."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mixture.engine.dry_run import Jobs
from mixture.engine.slurm_script import clock

_UNITS = (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10))
_NOT_KNOWN = "·"
_NONE = "-"


def jobs_tables(engine: str, jobs: Sequence[Jobs], later: Sequence[Jobs], script: str) -> list[RenderableType]:
    """Return the pictures of a dry run.

    Args:
        engine: who runs tasks.
        jobs: what would be handed over now.
        later: what the stages after it would be given.
        script: the batch script, or nothing.
    """
    if not jobs:
        return ["a dry run: nothing to hand over, all is whole"]
    parts: list[RenderableType] = [_table(f"a dry run, engine {engine}: handed over now", jobs)]
    for found in jobs:
        more = f" and {found.tasks - len(found.labels):,} more" if found.tasks > len(found.labels) else ""
        what = f"{', '.join(found.labels)}{more}" if found.labels else "by the driver itself"
        parts.append(Text(f"{found.stage}: {f'{found.why}: ' if found.why else ''}{what}"))
    parts += [Text(f"\n{script}")] if script else []
    if later:
        parts.append(_table(f"then ({_NOT_KNOWN}: follows from what comes before)", later))
    return parts


def memory_of(size: int) -> str:
    """Write an amount of memory as people do: 17179869184 → 16G."""
    for unit, of in _UNITS:
        if size >= of and size % of == 0:
            return f"{size // of}{unit}"
    return f"{size / (1 << 20):,.1f}M"


def _table(title: str, jobs: Sequence[Jobs]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("stage", no_wrap=True)
    for name in ("tasks", "jobs", "cpus", "memory", "time", "retries"):
        table.add_column(name, justify="right", no_wrap=True)
    for found in jobs:
        given = found.resources
        table.add_row(
            found.stage,
            f"{found.tasks:,}" if found.tasks else _NOT_KNOWN,
            f"{found.jobs:,}" if found.jobs else _NOT_KNOWN,
            str(given.cpus),
            memory_of(given.memory) if given.memory else _NONE,
            clock(given.time) if given.time else _NONE,
            str(given.retries),
        )
    return table
