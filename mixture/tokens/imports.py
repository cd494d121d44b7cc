"""What a source file imports: text in, candidate paths out, by regular expressions and without a parser.

    pkg/a.py    from . import b        pkg/b.py, pkg/b/__init__.py
    src/m.c     #include "u/x.h"       src/u/x.h, or any …/u/x.h

A statement gives a *request*: the paths that it may mean, the likeliest first, and whether a path may stand below any
folder of the repository (include directories, source roots) or just there. Languages: Python, JavaScript and
TypeScript, C and C++, Rust, Go, Java, Kotlin and Scala; DeepSeek-Coder (arXiv 2401.14196) orders repositories so. An
import in a comment or a string counts as one: that costs an order, never a file.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """What one import asks for.

    Attributes:
        paths: files that it may mean, the likeliest first.
        anywhere: whether they may stand below any folder, or from the repository's root alone.
        folder: whether they are folders, of which all files are meant.
    """

    paths: tuple[str, ...]
    anywhere: bool = False
    folder: bool = False


_PYTHON = re.compile(
    r"^[ \t]*(?:import[ \t]+(?P<names>[\w., \t]+)"
    r"|from[ \t]+(?P<dots>\.*)(?P<module>[\w.]*)[ \t]+import[ \t]*(?:\((?P<many>[^)]{0,4000})\)|(?P<one>[^\n#;]+)))",
    re.MULTILINE,
)
_COMMENT = re.compile(r"#[^\n]*")
_JAVASCRIPT = re.compile(r"""(?:\bfrom|\bimport|\brequire)\s*\(?\s*['"](\.{1,2}(?:/[^'"\n]*)?)['"]""")
_C = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
_RUST = re.compile(
    r"^[ \t]*(?:pub(?:\([^)\n]*\))?[ \t]+)?(?:mod[ \t]+(?P<mod>\w+)[ \t]*;"
    r"|use[ \t]+(?P<use>(?:crate|self|super)(?:::\w+)*)(?:::\{(?P<many>[^;]{0,4000})\})?)",
    re.MULTILINE,
)
_GO = re.compile(r'^[ \t]*import[ \t]*(?:\((?P<many>[^)]{0,8000})\)|(?:[\w.]+[ \t]+)?"(?P<one>[^"\n]+)")', re.MULTILINE)
_QUOTED = re.compile(r'"([^"\n]+)"')
_MODULE = re.compile(r"^module[ \t]+(\S+)", re.MULTILINE)
_JAVA = re.compile(r"^[ \t]*import[ \t]+(?P<static>static[ \t]+)?(?P<name>\w+(?:\.\w+)+)(?P<all>\.\*)?", re.MULTILINE)
_SCRIPTS = ("js", "jsx", "ts", "tsx", "mjs", "cjs", "mts", "cts", "vue", "svelte")


def requests(path: str, text: str, go_modules: Mapping[str, str]) -> Iterator[Request]:
    """Yield what a file imports.

    Args:
        path: its path in the repository, with forward slashes.
        text: its content.
        go_modules: name of each Go module of the repository, by its folder.
    """
    find = _LANGUAGES.get(path.rpartition(".")[2].lower())
    if find is not None:
        yield from find(path, text, go_modules)


def go_module(text: str) -> str | None:
    """Return the name of the module that a go.mod describes."""
    match = _MODULE.search(text)
    return match[1].strip('"') if match else None


def _python(path: str, text: str, _: Mapping[str, str]) -> Iterator[Request]:
    folder = posixpath.dirname(path)
    for match in _PYTHON.finditer(text):
        if match["names"] is not None:
            for name in match["names"].split(","):
                dotted = name.split()[:1]
                if dotted:
                    yield from _python_modules(dotted[0].split("."), folder)
            continue
        parts = [part for part in match["module"].split(".") if part]
        listed = _COMMENT.sub("", match["many"] or match["one"] or "")
        imported = [name.split()[0] for name in listed.split(",") if name.split()]
        above = len(match["dots"]) - 1
        if above >= 0:
            base = posixpath.normpath(posixpath.join(folder, *[".."] * above, *parts))
            base = "" if base == "." else base
            for name in imported:
                yield Request((*_python_files(posixpath.join(base, name)), *_python_files(base)))
        else:
            for name in imported:
                yield from _python_modules([*parts, name], folder, back=1)


def _python_modules(parts: list[str], folder: str, back: int = 0) -> Iterator[Request]:
    """Yield a request for an absolute module; its last `back` parts may be names inside it."""
    if not all(part.isidentifier() for part in parts):
        parts, back = parts[: len(parts) - back], 0
    tried: list[str] = []
    for size in range(len(parts), max(0, len(parts) - back - 1), -1):
        tried += _python_files("/".join(parts[:size]))
    # One name alone is as likely of the standard library: it is sought where scripts and source roots have theirs.
    single = len(parts) - back < 2
    if tried and not single:
        yield Request(tuple(tried), anywhere=True)
    elif tried:
        roots = dict.fromkeys([folder, "", "src", "lib", "python"])
        yield Request(tuple(posixpath.join(root, name) for root in roots for name in tried))


def _python_files(module: str) -> tuple[str, ...]:
    package = posixpath.join(module, "__init__.py")
    return (f"{module}.py", package, f"{module}.pyi", f"{module}.pyx") if module else (package,)


def _javascript(path: str, text: str, _: Mapping[str, str]) -> Iterator[Request]:
    folder = posixpath.dirname(path)
    for match in _JAVASCRIPT.finditer(text):
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        target = "" if target == "." else target
        stem, _dot, suffix = target.rpartition(".")
        # TypeScript names the file that it will become: ./x.js is x.ts.
        stems = [target, *([stem] if suffix in _SCRIPTS else [])]
        files = [f"{s}.{suffix}" for s in stems for suffix in (*_SCRIPTS, "json")]
        indexes = [posixpath.join(target, f"index.{suffix}") for suffix in _SCRIPTS]
        yield Request((target, *files, *indexes))


def _c(path: str, text: str, _: Mapping[str, str]) -> Iterator[Request]:
    folder = posixpath.dirname(path)
    for match in _C.finditer(text):
        beside = posixpath.normpath(posixpath.join(folder, match[1]))
        yield Request((beside,))
        if not match[1].startswith("."):
            yield Request((posixpath.normpath(match[1]),), anywhere=True)


def _rust(path: str, text: str, _: Mapping[str, str]) -> Iterator[Request]:
    folder, name = posixpath.split(path)
    is_root = name in ("mod.rs", "lib.rs", "main.rs")
    own = folder if is_root else posixpath.join(folder, name.removesuffix(".rs"))
    crate = f"{path.partition('/src/')[0]}/src" if "/src/" in path else "src" if path.startswith("src/") else folder
    for match in _RUST.finditer(text):
        if match["mod"]:
            yield Request(_rust_files([own, match["mod"]], 0))
            continue
        first, *rest = match["use"].split("::")
        base = {"crate": crate, "self": own, "super": posixpath.dirname(own)}[first]
        while rest[:1] == ["super"]:
            base, rest = posixpath.dirname(base), rest[1:]
        many = re.split(r"[,{}\s]+", match["many"]) if match["many"] else [""]
        for item in dict.fromkeys(many):
            names = [*rest, *(part for part in item.split("::") if part.isidentifier())]
            yield Request(_rust_files([base, *names], len(names) - 1))


def _rust_files(parts: list[str], back: int) -> tuple[str, ...]:
    """Return where a module's file may be; the last `back` parts may be names inside it."""
    found: list[str] = []
    for size in range(len(parts), len(parts) - back - 1, -1):
        module = posixpath.join(*parts[:size])
        found += [f"{module}.rs", f"{module}/mod.rs"]
    return tuple(found)


def _go(path: str, text: str, go_modules: Mapping[str, str]) -> Iterator[Request]:
    del path
    for match in _GO.finditer(text):
        names = _QUOTED.findall(match["many"]) if match["many"] is not None else [match["one"]]
        for name in names:
            for folder, module in go_modules.items():
                if name == module or name.startswith(f"{module}/"):
                    yield Request((posixpath.join(folder, name[len(module) + 1 :]).rstrip("/"),), folder=True)
            parts = name.split("/")
            if not go_modules and "." in parts[0]:
                # Whose module this is, is not said: the longest end of the name that is a folder here.
                yield Request(tuple("/".join(parts[n:]) for n in range(1, len(parts))), folder=True)


def _java(path: str, text: str, _: Mapping[str, str]) -> Iterator[Request]:
    suffix = path.rpartition(".")[2]
    for match in _JAVA.finditer(text):
        parts = match["name"].split(".")
        if match["all"] and not match["static"]:
            yield Request(("/".join(parts),), anywhere=True, folder=True)
        else:
            # A static import, and one of an inner class, names what lies inside the file.
            shorter = "/".join(parts[:-1])
            yield Request((f"{'/'.join(parts)}.{suffix}", f"{shorter}.{suffix}"), anywhere=True)


_Finder = Callable[[str, str, Mapping[str, str]], Iterator[Request]]
_C_SUFFIXES = ("c", "h", "cc", "cpp", "cxx", "c++", "hh", "hpp", "hxx", "inl", "cu", "cuh", "m", "mm")
_LANGUAGES: dict[str, _Finder] = {
    **dict.fromkeys(("py", "pyi", "pyx"), _python),
    **dict.fromkeys(_SCRIPTS, _javascript),
    **dict.fromkeys(_C_SUFFIXES, _c),
    "rs": _rust,
    "go": _go,
    **dict.fromkeys(("java", "kt", "scala"), _java),
}
