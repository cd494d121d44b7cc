"""Places of object stores answer as folders do; what is missing on this machine is said."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mixture.errors import InputError, StoreError
from mixture.patterns import expand
from mixture.storage import (
    as_place,
    below,
    each,
    files_in,
    is_folder,
    is_remote,
    make_folder,
    matches,
    places,
    read_json,
    read_record,
    remove_folder,
    scratch,
    size_of,
    stamp,
    workbench,
    write_json,
)
from tests.storage.objects import Store

NAMES = ("b.txt", "a.txt", "deep/c.txt", "deep/er/d.txt", "deep/er/e.md")


@pytest.fixture
def tree(store: Store) -> Store:
    for name in NAMES:
        store.put(name, name.encode())
    return store


def test_folders_and_files_are_told_apart(tree: Store) -> None:
    assert is_folder(tree.place("deep"))
    assert not is_folder(tree.place("a.txt"))
    assert not is_folder(tree.place("none"))
    assert (size_of(tree.place("a.txt")), size_of(tree.place("deep")), size_of(tree.place("none"))) == (5, None, None)
    assert files_in(tree.place()) == {"a.txt": 5, "b.txt": 5}
    assert files_in(tree.place("none")) == {}
    assert below(tree.place("deep/er/d.txt"), tree.place()) == "deep/er/d.txt"
    make_folder(tree.place("none"))
    assert not is_folder(tree.place("none"))


@pytest.mark.parametrize(
    "pattern", ["*.txt", "**/*.txt", "deep/*", "deep/**/*", "*/er/*", "[ab].txt", "?.txt", "none/*"]
)
def test_patterns_match_what_they_match_in_a_folder(tree: Store, tmp_path: Path, pattern: str) -> None:
    for name in NAMES:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).touch()
    expected = sorted(below(path, tmp_path / "tree") for path in matches(tmp_path / "tree", pattern))
    assert sorted(below(path, tree.place()) for path in matches(tree.place(), pattern)) == expected


@pytest.mark.parametrize("name", ["a b.txt", "ü+&=.txt", "a#b.txt", "100%.txt", "a?b.txt", "x..y", "[a].txt", "🙂"])
def test_an_object_may_bear_any_name(store: Store, name: str) -> None:
    write_json(store.place() / name, {"a": name})
    assert read_json(store.place() / name) == {"a": name}
    assert store.names() == [name]
    assert files_in(store.place()).keys() == {name}
    assert as_place(str(store.place() / name)) == store.place() / name


def test_inputs_are_found_by_patterns_in_the_order_of_names_and_what_is_not_there_is_named(tree: Store) -> None:
    found = expand(["**/*.txt", "a.txt"], ["deep/c.txt"], tree.place())
    assert [one.name for one in found] == ["a.txt", "b.txt", "deep/er/d.txt"]
    for pattern, message in [
        ("*.csv", r"no file matches '\*\.csv' under s3://"),
        ("a.text", r"s3://\S+/a\.text: no such file; did you mean 'a\.txt'\?"),
        ("nowhere/a.txt", r"nor the folder s3://\S+/nowhere"),
        ("deep", r"/deep: a folder, where files are wanted; name what is in it, as 'deep/\*'"),
    ]:
        with pytest.raises(InputError, match=message):
            expand([pattern], [], tree.place())


def test_a_stamp_tells_when_an_object_is_replaced(store: Store) -> None:
    before = stamp(store.put("a", b"old"))
    assert stamp(store.place("a")) == before
    assert stamp(store.put("a", b"new")) != before
    store.put("folder/a", b"")
    with pytest.raises(IsADirectoryError):
        stamp(store.place("folder"))


def test_a_folder_is_removed_with_all_in_it_and_its_neighbours_stay(tree: Store) -> None:
    tree.put("deeper", b"")
    remove_folder(tree.place("deep"))
    remove_folder(tree.place("deep"))
    assert tree.names() == ["a.txt", "b.txt", "deeper"]


def test_results_keep_their_order_and_come_at_once_where_they_wait_for_a_store(store: Store, tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def meet(number: int) -> int:
        together.wait(30)
        return number * number

    assert each(meet, range(8), store.place()) == [n * n for n in range(8)]
    caller = threading.get_ident()
    assert set(each(lambda _: threading.get_ident(), range(8), tmp_path)) == {caller}
    assert each(str, [], store.place()) == []


def test_records_are_sealed_and_bear_their_name(store: Store) -> None:
    write_json(store.place("a.json"), {"a": [1, "ü"]})
    assert read_json(store.place("a.json")) == {"a": [1, "ü"]}
    assert read_json(store.place("none.json")) is None
    with pytest.raises(StoreError, match="not a record of b"):
        read_record(store.place("a.json"), "b")
    assert not store.proxy.traffic.of("LIST")
    whole = store.get("a.json")
    store.put("b.json", whole)
    store.put("a.json", whole.replace(b"1", b"2"))
    store.put("c.json", whole[:-9])
    for name in ("a.json", "b.json", "c.json"):
        with pytest.raises(StoreError, match=rf"s3://\S+/{name}: damaged"):
            read_json(store.place(name))


def test_a_file_for_one_process_lies_on_this_machine_and_goes_with_it(store: Store) -> None:
    with workbench(store.place("work")) as folder:
        (folder / "x").touch()
        assert folder.is_relative_to(scratch())
    assert not folder.exists()
    assert store.names() == []


def test_the_scratch_folder_is_the_users_own(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scratch().is_relative_to(tmp_path / "scratch")
    assert scratch().stat().st_mode & 0o077 == 0
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("MIXTURE_SCRATCH", "$HERE/there")
    assert scratch().is_relative_to(tmp_path / "there")
    monkeypatch.setenv("MIXTURE_SCRATCH", "$NOT_SET_ANYWHERE/there")
    assert "NOT_SET" not in str(scratch())


def test_a_place_of_this_machine_needs_no_client(tmp_path: Path) -> None:
    assert as_place(str(tmp_path)) == as_place(f"file://{tmp_path}") == tmp_path
    assert not is_remote(as_place("relative/path"))
    told = subprocess.run([sys.executable, "-c", _MODULES], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


_MODULES = """
import sys
from mixture.storage import as_place
as_place("work")
print({name.partition(".")[0] for name in sys.modules} & {"upath", "fsspec", "s3fs", "botocore"})
"""
_WITHOUT = """
import sys
from mixture.errors import StoreError
from mixture.storage import as_place
sys.modules[sys.argv[2]] = None
try:
    as_place(sys.argv[1])
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("url", "package", "extra"), [("s3://b/x", "s3fs", "s3"), ("gs://b/x", "gcsfs", "gs"), ("az://b/x", "adlfs", "az")]
)
def test_a_store_without_its_client_says_what_to_install(url: str, package: str, extra: str) -> None:
    line = [sys.executable, "-c", _WITHOUT, url, package]
    told = subprocess.run(line, capture_output=True, text=True, check=True)
    assert told.stdout == f"{url}: needs {package}; pip install 'mixture[{extra}]', on every node\n"


@pytest.mark.parametrize("url", ["ftp://host/x", "hdfs://x", "http://x/y", "S3://x"])
def test_a_store_that_nobody_knows_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match=r"is not known; give a folder, s3://, gs:// or az://$"):
        as_place(url)


def test_s3_is_asked_by_one_client_that_gives_up_in_time(store: Store) -> None:
    client = as_place("s3://b/x").fs
    assert client.retries == 1
    assert client is as_place("s3://b/y").fs
    assert client.config_kwargs["retries"]["total_max_attempts"] == places.CLIENT_TRIES
