"""Files of a repository by dependency: what each language's imports mean, cycles, missing files, equal names."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import InputError, RecipeError
from mixture.tokens.dependencies import dependency_order
from tests.conftest import Kitchen
from tests.tokens.test_join import BUILD, read, small, source, texts, write


def ordered(files: Mapping[str, str]) -> list[str]:
    """Order files that are given in any order: by path first, as a join does."""
    paths = sorted(files)
    return [paths[number] for number in dependency_order(paths, [files[path] for path in paths])]


def before(files: Mapping[str, str], *chain: str) -> bool:
    """Whether some files come in this order."""
    found = ordered(files)
    return [path for path in found if path in chain] == list(chain)


# What each language imports


@pytest.mark.parametrize(
    "statement",
    [
        "import pkg.z",
        "import os, pkg.z as z",
        "from pkg import y, z",
        "from pkg.z import Thing",
        "from . import z",
        "from .z import Thing, other",
        "from . import (\n    y,  # why\n    z,\n)",
        "def late():\n    from pkg import z",
    ],
)
def test_a_python_file_follows_the_modules_that_it_imports(statement: str) -> None:
    assert before({"pkg/a.py": statement, "pkg/z.py": "x = 1"}, "pkg/z.py", "pkg/a.py")


def test_python_modules_are_found_in_packages_above_and_under_source_roots() -> None:
    assert before({"pkg/sub/a.py": "from ..z import T", "pkg/z.py": ""}, "pkg/z.py", "pkg/sub/a.py")
    assert before({"pkg/a.py": "from . import z", "pkg/z/__init__.py": ""}, "pkg/z/__init__.py", "pkg/a.py")
    assert before({"app.py": "import pkg.z", "src/pkg/z.py": ""}, "src/pkg/z.py", "app.py")
    assert before(
        {"repo-1.0/a.py": "from pkg.z import T", "repo-1.0/pkg/z.py": ""}, "repo-1.0/pkg/z.py", "repo-1.0/a.py"
    )
    assert before({"scripts/run.py": "import tools", "scripts/tools.py": ""}, "scripts/tools.py", "scripts/run.py")


def test_a_name_of_the_standard_library_is_not_a_file_far_away() -> None:
    assert ordered({"a.py": "import json", "deep/er/json.py": ""}) == ["a.py", "deep/er/json.py"]


@pytest.mark.parametrize(
    "statement",
    [
        "import x from './z'",
        "import './z.js'",
        'export * from "./z"',
        "const z = require('./z')",
        "const z = await import('./z')",
        "import {\n  a,\n  b,\n} from '../lib/z'",
    ],
)
def test_a_script_follows_the_files_that_it_names(statement: str) -> None:
    assert before({"lib/a.ts": statement, "lib/z.ts": ""}, "lib/z.ts", "lib/a.ts")


def test_a_folder_named_by_a_script_is_its_index_and_a_package_is_none_of_ours() -> None:
    assert before({"a.jsx": "import x from './z'", "z/index.tsx": ""}, "z/index.tsx", "a.jsx")
    assert ordered({"a.js": "import react from 'react'", "react.js": ""}) == ["a.js", "react.js"]


def test_a_c_file_follows_its_headers_beside_it_or_in_an_include_directory() -> None:
    assert before({"src/a.c": '#include "x.h"', "src/x.h": ""}, "src/x.h", "src/a.c")
    assert before({"a.cpp": '  #  include "u/x.hpp"', "include/u/x.hpp": ""}, "include/u/x.hpp", "a.cpp")
    assert before({"lib/a.cc": '#include "../z.h"', "z.h": ""}, "z.h", "lib/a.cc")
    assert ordered({"a.c": "#include <z.h>", "z.h": ""}) == ["a.c", "z.h"]


def test_a_rust_file_follows_its_modules_and_what_it_uses() -> None:
    assert before({"src/lib.rs": "pub mod z;", "src/z.rs": ""}, "src/z.rs", "src/lib.rs")
    assert before({"src/a.rs": "mod z;", "src/a/z.rs": ""}, "src/a/z.rs", "src/a.rs")
    assert before({"src/a.rs": "use crate::z::Thing;", "src/z/mod.rs": ""}, "src/z/mod.rs", "src/a.rs")
    assert before({"c/x/src/a.rs": "use crate::{q, z::T};", "c/x/src/z.rs": ""}, "c/x/src/z.rs", "c/x/src/a.rs")
    assert before({"src/m/a.rs": "use super::z::T;", "src/m/z.rs": ""}, "src/m/z.rs", "src/m/a.rs")
    assert ordered({"src/a.rs": "use std::z;", "src/z.rs": ""}) == ["src/a.rs", "src/z.rs"]


def test_a_go_file_follows_all_files_of_a_package_but_its_tests() -> None:
    package = {"z/one.go": "package z", "z/two.go": "package z", "z/two_test.go": "package z"}
    mod = {"go.mod": "module example.org/m\n\ngo 1.22\n"}
    wanted = ["go.mod", "z/one.go", "z/two.go", "a.go", "z/two_test.go"]
    many = 'package main\nimport (\n\t"fmt"\n\tq "example.org/m/z"\n)\n'
    assert sorted(wanted) == sorted(ordered({"a.go": many} | package | mod))
    for files in ({"a.go": many} | package | mod, {"a.go": 'import "example.org/m/z"'} | package):
        found = ordered(files)
        assert found.index("a.go") > max(found.index("z/one.go"), found.index("z/two.go"))
        assert found.index("a.go") < found.index("z/two_test.go")
    assert ordered({"a.go": 'import "z"'} | package)[0] == "a.go"


def test_a_java_file_follows_classes_below_any_source_root() -> None:
    z = {"src/main/java/org/x/Z.java": ""}
    for line in ("import org.x.Z;", "import static org.x.Z.make;", "import org.x.Z.Inner;", "import org.x.*;"):
        assert before({"src/main/java/org/a/A.java": line} | z, *z, "src/main/java/org/a/A.java")


# How they are ordered


def test_files_that_import_nothing_stay_in_the_order_of_their_paths() -> None:
    assert ordered({"c.py": "", "README.md": "import a", "a.py": "x", "b.unknown": "from . import c"}) == [
        "README.md",
        "a.py",
        "b.unknown",
        "c.py",
    ]


def test_imports_stand_right_before_their_importer() -> None:
    files = {"a.py": "import z1\nimport z2", "b.py": "", "c.py": "", "z1.py": "import z3", "z2.py": "", "z3.py": ""}
    assert ordered(files) == ["z3.py", "z1.py", "z2.py", "a.py", "b.py", "c.py"]


def test_a_cycle_is_broken_and_what_hangs_on_it_still_comes_after_it() -> None:
    files = {"a.py": "import c", "c.py": "import d", "d.py": "import c", "b.py": "import b"}
    assert ordered(files) == ["d.py", "c.py", "a.py", "b.py"]


def test_files_that_are_not_there_are_passed_over() -> None:
    assert ordered(
        {"a.py": "import gone.far\nfrom .. import nothing\nfrom ....... import x", "b.js": "require('./q')"}
    ) == [
        "a.py",
        "b.js",
    ]


def test_of_equal_names_the_nearest_is_meant() -> None:
    files = {"one/a.c": '#include "u/x.h"', "two/b.c": '#include "u/x.h"', "one/inc/u/x.h": "", "two/inc/u/x.h": ""}
    assert ordered(files) == ["one/inc/u/x.h", "one/a.c", "two/inc/u/x.h", "two/b.c"]


def test_of_equal_paths_the_first_is_meant_and_both_are_kept() -> None:
    paths, contents = ["a.py", "z.py", "z.py"], ["import z", "1", "2"]
    assert dependency_order(paths, contents) == [1, 0, 2]


def test_nothing_and_names_of_nothing_have_an_order() -> None:
    assert dependency_order([], []) == []
    assert dependency_order(["", ""], ["import a", "x"]) == [0, 1]


def test_a_chain_of_ten_thousand_files_is_no_recursion() -> None:
    count = 10_000
    paths = [f"m{n:05d}.py" for n in range(count)]
    assert dependency_order(paths, [f"import m{n + 1:05d}" for n in range(count)]) == list(range(count))[::-1]


NAMES = [f"p/m{n}.py" for n in range(8)]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=24))
def test_every_file_comes_once_and_behind_its_imports_unless_they_form_a_cycle(edges: list[tuple[int, int]]) -> None:
    imports = {n: {b for a, b in edges if a == n and b != n} for n in range(8)}
    order = dependency_order(NAMES, ["\n".join(f"from p import m{b}" for b in sorted(imports[n])) for n in range(8)])
    assert sorted(order) == list(range(8))
    reach = {n: set(imports[n]) for n in range(8)}
    for _ in range(8):
        reach = {n: found.union(*(reach[m] for m in found)) for n, found in reach.items()}
    place = {number: at for at, number in enumerate(order)}
    for a in range(8):
        for b in imports[a]:
            assert place[b] < place[a] or a in reach[b]


# In a build

REPOSITORY = [
    small("x", "app.py", "import pkg.core\n"),
    small("x", "pkg/core.py", "from pkg import util\n"),
    small("x", "pkg/util.py", "U = 1\n"),
    small("x", None, "no path"),
    small("y", "only.py", "import app"),
]
DEPENDENCY = source("by: repo, order: {dependency: path}")


def test_a_join_puts_imported_files_first_and_rows_without_a_path_last(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", REPOSITORY)
    store, _ = read(kitchen, DEPENDENCY)
    joined = "U = 1\n\n\nfrom pkg import util\n\n\nimport pkg.core\n\n\nno path"
    assert texts(store) == sorted([joined, "import app"])


def test_the_order_does_not_hang_on_files_or_workers(kitchen: Kitchen) -> None:
    draw = random.Random(1)
    rows = [
        small(f"r{repo}", f"p/m{n}.py", f"from p import m{draw.randrange(9)}, m{draw.randrange(9)}\n# {repo} {n}\n" * 9)
        for repo in range(40)
        for n in range(9)
    ]
    write(kitchen.data / "1.jsonl", rows)
    first = kitchen.build(kitchen.recipe(sources=DEPENDENCY, **BUILD), work="one")
    draw.shuffle(rows)
    write(kitchen.data / "1.jsonl", rows[:100])
    write(kitchen.data / "2.jsonl", rows[100:])
    second = kitchen.build(kitchen.recipe(sources=DEPENDENCY, **BUILD), work="two", workers=2)
    plain = kitchen.build(kitchen.recipe(sources=source(), **BUILD), work="three")
    assert first.hashes == second.hashes != plain.hashes
    second.job.verify()


def test_an_order_is_a_field_or_a_dependency(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", REPOSITORY)
    with pytest.raises(RecipeError, match="exactly one of: the name of a field"):
        read(kitchen, source("by: repo, order: {dependency: path, field: path}"))
    with pytest.raises(InputError, match="no row has a value in 'paht'"):
        read(kitchen, source("by: repo, order: {dependency: paht}"))
