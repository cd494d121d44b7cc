"""Where things lie: places that cannot be used are named, and any place that can be used gives the same shards."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixture.storage import HashingWriter
from tests.cli.conftest import DOCS, EASY, Shop, write_jsonl
from tests.conftest import recipe_text


def test_a_work_directory_that_is_a_file_is_named_and_left_alone(shop: Shop) -> None:
    shop.stock()
    path = shop.file("work", b"mine")
    shop.refused(shop.run(), f"{path}: a file stands where a folder is needed")
    shop.refused(shop.run("--work", "work/deeper"), "a file stands where a folder is needed")
    assert path.read_bytes() == b"mine"


def test_a_lock_path_that_is_a_folder_is_named(shop: Shop) -> None:
    shop.stock()
    shop.file("small.lock.json/x", b"")
    shop.refused(shop.run(), "small.lock.json: a folder stands where a file is needed")


def test_a_missing_data_root_is_named(shop: Shop) -> None:
    shop.stock()
    shop.refused(shop.run("--data", "nowhere"), "nowhere", "--data")


def test_another_current_directory_and_relative_places_give_the_same_shards(shop: Shop, tmp_path: Path) -> None:
    shop.stock()
    first = shop.run()
    elsewhere = tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    up = "../../small.yaml"
    said = shop.call(
        "run", up, "--data", "../..", "--work", "w", "--lock", "l/x.json", "-j", "1", "--json", at=elsewhere
    )
    assert said.hashes == first.hashes
    assert Path(said.json["shards_folders"][0]).is_relative_to(elsewhere / "w")
    assert (elsewhere / "l/x.json").read_bytes() == (shop.root / "small.lock.json").read_bytes()
    verified = shop.call("verify", up, "--work", "w", "--lock", "l/x.json", "-j", "1", at=elsewhere)
    assert verified.code == 0


def test_places_can_come_from_the_environment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.stock()
    monkeypatch.setenv("MIXTURE_WORK", "from-environment")
    assert shop.run().code == 0
    assert (shop.root / "from-environment/shards").is_dir()


def test_two_recipes_share_one_work_directory_and_its_tokens(shop: Shop) -> None:
    shop.stock()
    first = shop.run()
    other = recipe_text(**(EASY | {"seed": 8})).replace("name: small", "name: other")
    shop.file("other.yaml", other)
    second = shop.run(recipe="other.yaml")
    assert "tokenize: nothing to do" in second.err
    assert not set(first.hashes) & set(second.hashes)
    for recipe in ("small.yaml", "other.yaml"):
        assert shop.call("verify", recipe, "-j", "1").code == 0
    assert shop.run().json["written_now"] == []


@pytest.mark.parametrize(
    "name", ["a b.yaml", "ünïcödé 🙂.yaml", "no-suffix", "a.b.yaml", "x.yml", "'quoted'.yaml", "[x].yaml"]
)
def test_a_recipe_file_may_bear_any_name(shop: Shop, name: str) -> None:
    (shop.stock()).rename(shop.root / name)
    assert shop.run(recipe=name).code == 0
    assert shop.call("report", name).code == 0
    assert len(list(shop.root.glob("*.lock.json"))) == 1


@pytest.mark.parametrize("name", ["a/b", "../x", "a b", "ü", "", ".hidden"])
def test_a_recipe_whose_name_makes_no_folder_is_refused(shop: Shop, name: str) -> None:
    shop.file("small.yaml", recipe_text().replace("name: small", f"name: '{name}'"))
    shop.refused(shop.run(), "small.yaml, line 2: name: ", repr(name))


# Disk full.


class _FullDisk:
    """Lets so many bytes through, then refuses as a full disk does."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = HashingWriter.write

    def __call__(self, writer: HashingWriter, data: bytes | memoryview) -> int:
        size = memoryview(data).nbytes
        if size > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= size
        return self.write(writer, data)


def test_a_disk_that_fills_at_any_moment_leaves_nothing_half_written_and_room_finishes_the_run(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock()
    expected = shop.run("--work", "reference", "--lock", "reference.lock.json").hashes
    full = 0
    for room in (0, 300, 100_000, 180_000, 190_000, 200_000, 220_000, 250_000):
        with monkeypatch.context() as patch:
            disk = _FullDisk(room)
            patch.setattr(HashingWriter, "write", lambda self, data, disk=disk: disk(self, data))
            said = shop.run()
        if said.code:
            shop.refused(said, "the disk is full", "MB free", "run the same command again")
            full += 1
    assert full >= 3
    assert shop.run().hashes == expected


@contextlib.contextmanager
def _small_disk(at: Path, size: str) -> Iterator[None]:
    at.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (that takes root and the right to mount)")
    try:
        yield
    finally:
        subprocess.run(["umount", str(at)], check=True)


def test_a_really_full_disk_is_said_and_after_freeing_space_the_same_shards_come_out(shop: Shop) -> None:
    shop.stock()
    expected = shop.run().hashes
    with _small_disk(shop.root / "disk", "1m"):
        shop.file("disk/ballast", bytes(850_000))
        said = shop.run("--work", "disk/work", "--lock", "disk.lock.json")
        shop.refused(said, "the disk is full", "MB free")
        shop.is_clean("disk")
        (shop.root / "disk/ballast").unlink()
        assert shop.run("--work", "disk/work", "--lock", "disk.lock.json").hashes == expected


# No permission.


#: Becomes the program that it is given, without the rights of root to override permissions: PR_CAPBSET_DROP of
#: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
HEED_PERMISSIONS = """
import ctypes, os, sys
for right in (1, 2):
    ctypes.CDLL(None).prctl(24, right, 0, 0, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def plain_user(tmp_path: Path) -> list[str]:
    """The program through which to start a process that permissions hold for."""
    through = [sys.executable, "-c", HEED_PERMISSIONS] if os.getuid() == 0 else []
    secret = tmp_path / "secret"
    secret.touch(mode=0)
    if subprocess.run([*through, "cat", secret], capture_output=True, check=False).returncode == 0:
        pytest.skip("root, and its rights cannot be dropped here")
    return through


def test_a_work_directory_without_permission_is_named(shop: Shop, plain_user: list[str]) -> None:
    shop.stock()
    shop.root.chmod(0o555)
    said = shop.process("run", "small.yaml", "--json", through=plain_user)
    shop.root.chmod(0o755)
    shop.refused(said, f"{shop.root / 'work'}: permission denied", "give another place")


def test_an_unreadable_input_is_named(shop: Shop, plain_user: list[str]) -> None:
    shop.stock()
    (shop.root / "data/a.jsonl").chmod(0)
    (shop.root / "work").mkdir()
    (shop.root / "work").chmod(0o777)
    said = shop.process("run", "small.yaml", "--json", through=plain_user)
    shop.refused(said, "data/a.jsonl: permission denied")


def test_a_recipe_in_a_read_only_folder_runs_with_its_lock_elsewhere(shop: Shop, plain_user: list[str]) -> None:
    shop.stock()
    (shop.root / "shelf").mkdir()
    (shop.root / "small.yaml").rename(shop.root / "shelf/small.yaml")
    (shop.root / "shelf").chmod(0o555)
    (shop.root / "out").mkdir()
    (shop.root / "out").chmod(0o777)
    command = ("run", "shelf/small.yaml", "--work", "out/work", "--json", "-j", "1")
    shop.refused(shop.process(*command, through=plain_user), "shelf/small.lock.json: permission denied")
    said = shop.process(*command, "--lock", "out/small.lock.json", through=plain_user)
    assert said.code == 0, said.err
    assert (shop.root / "out/small.lock.json").is_file()


def test_a_corpus_that_changes_its_name_is_not_read_again(shop: Shop) -> None:
    shop.stock()
    first = shop.run()
    (shop.root / "data/a.jsonl").unlink()
    write_jsonl(shop.root / "data/z.jsonl", DOCS)
    again = shop.run()
    assert again.hashes == first.hashes
    assert "tokenize: nothing to do" in again.err
