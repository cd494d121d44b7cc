"""What a figure was measured on."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

LIBRARIES = (
    "mixture",
    "numpy",
    "pyarrow",
    "gigatoken",
    "tiktoken",
    "tokenizers",
    "sentencepiece",
    "xxhash",
    "duckdb",
    "polars",
)


def facts() -> dict[str, Any]:
    """Return processor, cores, memory, load, versions and date."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "libraries": {name: found for name in LIBRARIES if (found := version(name))},
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version(library: str) -> str | None:
    """Return an installed package's version, or None."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
