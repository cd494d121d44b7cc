"""The files of a repository by dependency: paths and texts in, an order in which imported files come first out.

    a.py   import c       imports c.py
    b.py                  nothing
    c.py   import d       imports d.py
    d.py   import c       imports c.py: a cycle
    order  d c a b        each file is preceded by what it imports, as far as a cycle lets it; the rest by path

Files are visited in the order given, each after the files that it imports (a depth-first walk's post-order): imports
stand before their importer, near it, and an import that closes a cycle is passed over. DeepSeek-Coder (arXiv
2401.14196, algorithm 1) takes the file with fewest imports first instead, which leaves a cycle to chance.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence

from mixture.tokens.imports import Request, go_module, requests


def dependency_order(paths: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Return the order of a repository's files: a permutation of their numbers, imported files first.

    Args:
        paths: of the files, with forward slashes, in the order that holds where nothing is imported; of two equal
            paths the first is the one that imports mean.
        texts: their contents.
    """
    clean = [posixpath.normpath(path).lstrip("/") if path else "" for path in paths]
    tree = _Tree(clean)
    found = zip(clean, texts, strict=True)
    modules = {posixpath.dirname(path): go_module(text) for path, text in found if posixpath.basename(path) == "go.mod"}
    named = {folder: name for folder, name in modules.items() if name}
    imports = [_imported(tree, path, text, named) for path, text in zip(clean, texts, strict=True)]
    return _imported_first(imports)


def _imported(tree: _Tree, path: str, text: str, go_modules: Mapping[str, str]) -> list[int]:
    """Return the files that one imports, in the order given."""
    found = {number for request in requests(path, text, go_modules) for number in tree.find(request, path)}
    return sorted(found)


def _imported_first(imports: Sequence[Sequence[int]]) -> list[int]:
    """Return the post-order of a depth-first walk over files in their order, without recursion."""
    order: list[int] = []
    seen = [False] * len(imports)
    for start in range(len(imports)):
        if seen[start]:
            continue
        seen[start] = True
        open_: list[tuple[int, Iterator[int]]] = [(start, iter(imports[start]))]
        while open_:
            number, rest = open_[-1]
            following = next((n for n in rest if not seen[n]), None)
            if following is None:
                order.append(number)
                open_.pop()
            else:
                seen[following] = True
                open_.append((following, iter(imports[following])))
    return order


class _Tree:
    """The paths of a repository: finds the files that an import means."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._number: dict[str, int] = {}
        self._ends: dict[str, list[int]] = {}
        self._files: dict[str, list[int]] = {}
        self._folders: dict[str, list[str]] = {}
        for number, path in enumerate(paths):
            if path and self._number.setdefault(path, number) == number:
                self._ends.setdefault(_end(path), []).append(number)
                self._files.setdefault(posixpath.dirname(path), []).append(number)
        for folder in self._files:
            self._folders.setdefault(_end(folder), []).append(folder)

    def find(self, request: Request, importer: str) -> Sequence[int]:
        """Return the files that a request means: of its paths the first that is there; none may be."""
        for path in request.paths:
            found = self._folder(path, request, importer) if request.folder else self._file(path, request, importer)
            if found:
                return found
        return ()

    def _file(self, path: str, request: Request, importer: str) -> list[int]:
        if path in self._number:
            return [self._number[path]]
        if not request.anywhere:
            return []
        ends = f"/{path}"
        below = [number for number in self._ends.get(_end(path), ()) if self._paths[number].endswith(ends)]
        return [min(below, key=lambda n: _distance(self._paths[n], importer))] if below else []

    def _folder(self, path: str, request: Request, importer: str) -> list[int]:
        if path not in self._files and request.anywhere:
            below = [folder for folder in self._folders.get(_end(path), ()) if folder.endswith(f"/{path}")]
            path = min(below, key=lambda folder: _distance(folder, importer)) if below else path
        # Of a package, the files of the importer's language; its tests are imported by nobody.
        suffix = posixpath.splitext(importer)[1]
        here = [n for n in self._files.get(path, ()) if self._paths[n].endswith(suffix)]
        return [n for n in here if not self._paths[n].endswith("_test.go")]


def _end(path: str) -> str:
    """Return the last two parts of a path: few paths share them, even where many files are called index.ts."""
    return "/".join(path.rsplit("/", 2)[-2:])


def _distance(path: str, importer: str) -> tuple[int, int, str]:
    """Rank files of equal names: those that share most folders with the importer come first, then shorter paths."""
    shared = 0
    for a, b in zip(path.split("/"), importer.split("/"), strict=False):
        if a != b:
            break
        shared += 1
    return -shared, path.count("/"), path
