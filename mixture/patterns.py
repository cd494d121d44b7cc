"""A recipe's names of files: patterns under the data root, in stable order, the same on every machine.

corpus/books-*.jsonl   ─ under --data ─▶  corpus/books-00.jsonl, corpus/books-01.jsonl, by name
python://stdlib/*.py   ─ the library of the Python that runs ─▶  python://stdlib/abc.py, …
"""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mixture.errors import InputError
from mixture.storage import Place, as_place, below, check_bucket, is_folder, matches, refusals

#: Roots that every machine with Python has; a recipe names them instead of a path of one machine.
PYTHON_ROOTS = {"python://stdlib/": "stdlib", "python://site-packages/": "purelib"}
_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class Found:
    """A file that a recipe's pattern matched.

    `name` is what enters locks: relative to the data root (or to a `python://` root), with forward slashes.
    """

    name: str
    path: Place


def expand(patterns: Sequence[str], exclude: Sequence[str], root: Place) -> tuple[Found, ...]:
    """Return the files that the patterns match under the data root, once each, in the order of their names.

    Raises:
        InputError: a file is missing, or a pattern matches nothing.
    """
    dropped = {found.name for pattern in exclude for found in _glob(pattern, root)}
    kept: dict[str, Found] = {}
    for pattern in patterns:
        matches = [found for found in _glob(pattern, root) if found.name not in dropped]
        if not matches:
            raise InputError(_no_match(pattern, root))
        kept.update((found.name, found) for found in matches)
    return tuple(kept[name] for name in sorted(kept))


def locate(name: str, root: Place) -> Place:
    """Return where a recipe's relative (or `python://`) name lies on this machine."""
    _, base, rest = _split_root(name, root)
    return base / rest


def _split_root(pattern: str, root: Place) -> tuple[str, Place, str]:
    for prefix, place in PYTHON_ROOTS.items():
        if pattern.startswith(prefix):
            return prefix, as_place(sysconfig.get_path(place)), pattern.removeprefix(prefix)
    return "", root, pattern


def _glob(pattern: str, root: Place) -> list[Found]:
    prefix, base, rest = _split_root(pattern, root)
    if not _GLOB_CHARACTERS & set(rest):
        paths = [base / rest]
    else:
        # The fixed leading folders are joined by hand: pathlib's glob does not walk through "..".
        parts = Path(rest).parts
        wild = next(i for i, part in enumerate(parts) if _GLOB_CHARACTERS & set(part))
        base = base.joinpath(*parts[:wild])
        prefix += "".join(f"{part}/" for part in parts[:wild])
        with refusals(base):
            found = matches(base, str(Path(*parts[wild:])))
        return [Found(prefix + below(path, base), path) for path in found]
    with refusals(base):
        return [Found(prefix + Path(rest).as_posix(), path) for path in paths if path.is_file()]


def _no_match(pattern: str, root: Place) -> str:
    _, base, rest = _split_root(pattern, root)
    check_bucket(base)
    if _GLOB_CHARACTERS & set(rest):
        return f"no file matches {pattern!r} under {base}; check the pattern, or give the data root with --data"
    if is_folder(base / rest):
        inside = f"{pattern.rstrip('/')}/*".lstrip("/")
        return f"{base / rest}: a folder, where files are wanted; name what is in it, as {inside!r}"
    place = (base / rest).parent
    if not is_folder(place):
        return f"{base / rest}: no such file (nor the folder {place}); give the data root with --data"
    import difflib

    close = difflib.get_close_matches(Path(rest).name, [p.name for p in place.iterdir()], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "; check the name, or give the data root with --data"
    return f"{base / rest}: no such file{hint}"
