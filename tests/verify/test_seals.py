"""A sealed record gives back what was written, or is refused with its name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture import lockfile
from mixture.errors import LockError, StoreError
from mixture.storage import read_json, unsealed, write_json
from tests.verify.conftest import Build

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["value", "seal", "a"]) | st.text(), inner)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_value_comes_back_and_the_file_is_json_with_a_seal(tmp_path_factory: Any, value: Any) -> None:
    path = tmp_path_factory.mktemp("seal") / "a.json"
    write_json(path, value)
    assert read_json(path) == value
    text = path.read_text(encoding="utf-8")
    assert len(json.loads(text)["seal"]) == 32
    assert text.endswith("\n}\n")


@given(VALUES, st.data())
def test_no_other_bytes_pass(tmp_path_factory: Any, value: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("seal") / "a.json"
    write_json(path, value)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    assert unsealed(bytes(content), "a.json") is None
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.json: damaged"):
        read_json(path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace('"a": 1', '"a":  1'), "its seal does not fit its bytes"),
        (lambda text: text.replace('"a": 1', '"a": 1.0'), "its seal does not fit its bytes"),
        (lambda text: text + "\n", "its seal does not fit its bytes"),
        (lambda text: text.replace("\n", "\r\n"), "its seal does not fit its bytes"),
        (lambda _: '{"a": 1}', "no seal, or is of an older version"),
        (lambda text: text[:10], "not JSON"),
        (lambda _: "", "not JSON"),
    ],
)
def test_what_json_would_forgive_is_refused_in_a_sentence(tmp_path: Path, change: Any, why: str) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    path.write_text(change(path.read_text()), newline="")
    with pytest.raises(StoreError, match=rf"a\.json: damaged, .*{why}.*; remove it and run again"):
        read_json(path)


def test_a_record_under_another_s_name_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    with pytest.raises(StoreError, match=r"b\.json: damaged, its seal does not fit"):
        read_json(tmp_path / "b.json")


def test_a_lock_may_have_any_name_and_no_other_content(build: Build, tmp_path: Path) -> None:
    lock, content = lockfile.read(build.job.lock_path), build.job.lock_path.read_bytes()
    (tmp_path / "copy.json").write_bytes(content)
    assert lockfile.read(tmp_path / "copy.json") == lock
    for old, new in ((b'"name": "small"', b'"name": "Small"'), (b'"with"', b'"With"'), (b'"numpy": "', b'"numpy": " ')):
        assert old in content
        (tmp_path / "copy.json").write_bytes(content.replace(old, new, 1))
        with pytest.raises(LockError, match=r"copy\.json: its bytes do not fit its seal"):
            lockfile.read(tmp_path / "copy.json")
    (tmp_path / "copy.json").write_text('{"format": 2, "fingerprint": "x", "made": {}}')
    with pytest.raises(LockError, match="lock format 2, this version reads 3; plan again"):
        lockfile.read(tmp_path / "copy.json")


def test_where_things_lay_is_no_part_of_what_was_made(build: Build) -> None:
    lock = lockfile.require(build.job.lock_path, "small")
    assert set(lock.work) == {"store", "joined", "index", "plans", "related", "weights"}
    other = replace(lock, work={}, versions={})
    assert (other, other.fingerprint) == (lock, lock.fingerprint)
