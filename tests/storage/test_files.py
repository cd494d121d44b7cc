"""Files appear whole or not at all; globs are stable; one run at a time."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
import xxhash

from mixture.errors import BusyError, InputError, StoreError
from mixture.patterns import expand
from mixture.storage import explain, only_run, publish, read_json, scratch, write_json
from mixture.storage.publish import machine


def _names(tmp_path: Path, *patterns: str, exclude: tuple[str, ...] = ()) -> list[str]:
    return [found.name for found in expand(patterns, exclude, tmp_path)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.txt", "deep/c.txt", "deep/er/d.txt", "deep/er/e.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_file_appears_whole_with_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with publish(path) as out:
        out.write(b"one")
        out.write(memoryview(b" two"))
        assert not path.exists()
    assert path.read_bytes() == b"one two"
    assert (out.size, out.digest) == (7, xxhash.xxh3_128_hexdigest(b"one two"))


def test_a_failure_leaves_what_was_there_and_no_scraps(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(TypeError), publish(path) as out:
        out.write("not bytes")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_a_sentence_with_the_next_move(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with (
        pytest.raises(
            StoreError, match=r"file: the disk is full \(.* MB free\); free some space or give another place"
        ),
        publish(path),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_of_a_used_up_quota_nothing_is_said_that_nobody_knows(tmp_path: Path) -> None:
    said = explain(OSError(errno.EDQUOT, "Disk quota exceeded"), tmp_path)
    assert said.startswith(f"{tmp_path}: the disk quota is used up; free some space or give another place (--work, ")


def test_a_full_scratch_folder_is_told_from_a_full_work_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXTURE_SCRATCH", str(tmp_path))
    said = explain(OSError(errno.ENOSPC, "No space left on device", str(scratch() / "mirrors")), Path())
    assert "MB free); free some space or give another scratch folder (scratch: of the profile, or MIXTURE_SCR" in said


def test_a_record_that_is_not_json_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, "ü"]})
    assert read_json(tmp_path / "a.json") == {"b": [1, "ü"]}
    assert read_json(tmp_path / "none.json") is None
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(StoreError, match=r"a\.json: damaged, not JSON"):
        read_json(tmp_path / "a.json")


def test_globs_find_each_file_once_in_the_order_of_names(tree: Path) -> None:
    assert _names(tree, "*.txt") == ["a.txt", "b.txt"]
    assert _names(tree, "**/*.txt", "a.txt") == ["a.txt", "b.txt", "deep/c.txt", "deep/er/d.txt"]
    assert _names(tree, "deep/**/*", exclude=("**/*.md",)) == ["deep/c.txt", "deep/er/d.txt"]
    assert _names(tree / "deep", "../*.txt") == ["../a.txt", "../b.txt"]


def test_python_s_own_files_have_names_that_mean_the_same_everywhere(tmp_path: Path) -> None:
    found = expand(["python://stdlib/json/*.py"], ["python://stdlib/json/tool.py"], tmp_path)
    assert "python://stdlib/json/decoder.py" in [f.name for f in found]
    assert "python://stdlib/json/tool.py" not in [f.name for f in found]
    assert found[0].path.is_file()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*.csv", r"no file matches '\*\.csv' under"),
        ("a.text", r"a\.text: no such file; did you mean 'a\.txt'\?"),
        ("nowhere/a.txt", "nor the folder"),
        ("deep", r"deep: a folder, where files are wanted; name what is in it, as 'deep/\*'"),
        ("deep/", r"a folder, where files are wanted; name what is in it, as 'deep/\*'"),
    ],
)
def test_what_is_not_there_is_named(tree: Path, pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        expand([pattern], [], tree)


def test_a_second_run_is_told_who_is_at_work_and_scraps_are_swept(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".part.arrow.1-ab.tmp").touch()
    (tmp_path / "deep" / ".dry-run-x.tmp").mkdir()
    others = [tmp_path / "deep" / name for name in (".notes.tmp", ".a-1.tmp", "part.arrow.1-ab.tmp")]
    for path in others:
        path.touch()
    with only_run(tmp_path):
        assert sorted(tmp_path.rglob("*.tmp")) == sorted(others)
        with pytest.raises(BusyError, match="is in use by process"), only_run(tmp_path):
            pass
    with only_run(tmp_path):
        pass


def test_what_a_living_process_or_another_machine_writes_is_left_alone(tmp_path: Path) -> None:
    here, dead = machine(), subprocess.Popen(["true"])
    dead.wait()
    mine, killed, elsewhere, forgotten = (
        tmp_path / f".part.arrow.{where}.{pid}-ab.tmp"
        for where, pid in ((here, os.getpid()), (here, dead.pid), ("0" * 8, dead.pid), ("1" * 8, dead.pid))
    )
    for path in (mine, killed, elsewhere, forgotten):
        path.touch()
    os.utime(forgotten, (0, 0))
    with only_run(tmp_path):
        assert set(tmp_path.glob("*.tmp")) == {mine, elsewhere}
