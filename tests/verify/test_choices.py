"""A sample, the inputs, a folder elsewhere: what is looked at, and what is said of the rest."""

from __future__ import annotations

import gzip
import os
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import VerifyError
from mixture.recipe import bucket_names
from mixture.tokens import inputs
from mixture.verify import Checks
from mixture.verify.files import pick
from mixture.verify.inputs import compare_inputs
from tests.conftest import documents, write_jsonl
from tests.verify.conftest import Build

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=30, unique=True)


@given(NAMES, st.floats(0.01, 1), st.integers(0, 3), st.randoms())
def test_a_sample_is_a_share_rounded_up_whatever_the_order_of_names(
    names: list[str], share: float, seed: int, order: random.Random
) -> None:
    chosen = pick(names, share, seed)
    shuffled = list(names)
    order.shuffle(shuffled)
    assert pick(shuffled, share, seed) == chosen
    assert chosen <= set(names)
    assert len(names) * share <= len(chosen) < len(names) * share + 1


@given(NAMES, st.integers(0, 3))
def test_a_larger_sample_holds_a_smaller_one(names: list[str], seed: int) -> None:
    samples = [pick(names, share / 10, seed) for share in range(1, 11)]
    assert all(small <= large for small, large in pairwise(samples))
    assert samples[-1] == set(names)


def test_a_tenth_of_ten_is_one() -> None:
    assert len(pick([str(n) for n in range(10)], 0.1, 0)) == 1
    assert len({frozenset(pick([str(n) for n in range(10)], 0.1, seed)) for seed in range(50)}) > 5


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_a_share_out_of_bounds_is_refused(share: float) -> None:
    with pytest.raises(VerifyError, match=r"--sample .*: give a share above 0 and up to 1"):
        Checks(sample=share)


def test_a_sample_reads_less_says_so_and_finds_damage_in_what_it_reads_alone(build: Build) -> None:
    every, some = build.check(), build.check(sample=0.3, seed=5)
    assert some.whole
    assert some.shards == 3 < every.shards
    assert some.bytes < every.bytes
    assert (some.cells, some.documents) == (0, 0)
    assert "7 of 10 shards: not in the sample" in some.not_checked
    assert "quotas, caps and copies over all shards: they need every shard" in some.not_checked
    assert any("groups of files in the store: not in the sample" in sentence for sentence in some.not_checked)
    found = 0
    for path in [p for p in build.files if p.name.startswith("shard-") and p.suffix == ".arrow"]:
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        found += not build.check(sample=0.3, seed=5).whole
        path.write_bytes(content)
    assert found == 3


def test_inputs_that_did_not_change_are_whole_and_renamed_ones_are_fine_and_said(build: Build) -> None:
    checked = build.check(inputs=True)
    assert checked.whole
    assert checked.inputs == 4
    build.kitchen.data.joinpath("1.jsonl").rename(build.kitchen.data / "new name.jsonl")
    renamed = build.check(inputs=True)
    assert renamed.whole
    assert renamed.notes == ("data/1.jsonl is called data/new name.jsonl now; its content is the same",)
    build.kitchen.data.joinpath("new name.jsonl").unlink()


def test_a_flipped_bit_in_an_input_is_found_with_the_cells_that_it_fed(build: Build) -> None:
    path = build.kitchen.data / "1.jsonl"
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    # As if nobody had touched it: what is remembered of files would be believed.
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (finding,) = build.check(inputs=True).findings
    assert (finding.kind, finding.file) == ("input", "data/1.jsonl")
    assert "data/1.jsonl of source 'all' changed since the lock was made" in finding.message
    edges = build.job.recipe.buckets.default
    expected: dict[tuple[str, str], list[int]] = {}
    for document in documents(12, seed=1):
        tokens = len(document.text.encode())
        bucket = bucket_names(edges)[sum(tokens >= edge for edge in edges)]
        held = expected.setdefault((document.domain, bucket), [0, 0])
        held[0], held[1] = held[0] + 1, held[1] + tokens
    cells = {(c["domain"], c["bucket"]): [c["documents"], c["tokens"]] for c in finding.cells}
    assert cells == expected
    assert all(f"{domain} {bucket} ({held[0]} documents, {held[1]:,} tokens)" in finding.message
               for (domain, bucket), held in expected.items())  # fmt: skip


def test_missing_and_new_inputs_are_named(build: Build) -> None:
    data = build.kitchen.data
    (data / "2.jsonl").unlink()
    write_jsonl(data / "9.jsonl", documents(3, seed=77))
    found = {finding.file: finding.message for finding in build.check(inputs=True).findings}
    (data / "9.jsonl").unlink()
    assert set(found) == {"data/2.jsonl", "data/9.jsonl"}
    assert "is gone" in found["data/2.jsonl"]
    assert "it fed books" in found["data/2.jsonl"]
    assert "is new" in found["data/9.jsonl"]


def test_a_source_of_which_nothing_is_left_is_named_file_by_file(build: Build) -> None:
    (build.root / "rows/a.jsonl").unlink()
    (finding,) = build.check(inputs=True).findings
    assert finding.file == "rows/a.jsonl"
    assert "is gone" in finding.message
    # Joined documents count for the file in which they begin.
    assert sum(cell["documents"] for cell in finding.cells) == 3


def test_without_a_sound_index_the_cells_of_an_input_are_not_known(build: Build) -> None:
    (build.kitchen.data / "2.jsonl").write_bytes(gzip.compress(b"x"))
    table = next(path for path in build.files if path.name == "index.parquet")
    table.write_bytes(table.read_bytes()[:-1])
    findings = build.check(inputs=True).findings
    assert [finding.kind for finding in findings] == ["index", "input"]
    assert "there is no sound index here" in findings[1].message
    assert findings[1].cells == ()


FILES = st.lists(st.tuples(st.sampled_from("st"), st.sampled_from("abcd"), st.sampled_from("012")), max_size=6)


@given(FILES, FILES)
def test_every_input_is_the_same_renamed_changed_gone_or_new(
    was: list[tuple[str, str, str]], now: list[tuple[str, str, str]]
) -> None:
    # A source has one file of each name.
    was, now = (list({file[:2]: file for file in files}.values()) for files in (was, now))
    changed, gone, new, renamed = compare_inputs(was, now)
    same = set(was) & set(now)
    assert len(was) == len(same) + len(changed) + len(gone) + len(renamed)
    assert len(now) == len(same) + len(changed) + len(new) + len(renamed)
    assert {file[:2] for file in changed} <= {file[:2] for file in now}
    assert not {file[:2] for file in gone} & {file[:2] for file in new}


def test_the_remembered_hashes_are_not_written_by_a_check(build: Build) -> None:
    before = {path: path.stat().st_mtime_ns for path in (build.root / "work").rglob("*") if path.is_file()}
    build.check(inputs=True)
    assert {path: path.stat().st_mtime_ns for path in (build.root / "work").rglob("*") if path.is_file()} == before
    assert inputs.SMALL_FILE == 0


def test_shards_elsewhere_need_no_records_but_all_or_none(build: Build, tmp_path: Path) -> None:
    for folder in sorted((build.root / "work/shards").iterdir()):
        for path in folder.glob("*.arrow"):
            (tmp_path / folder.name).mkdir(exist_ok=True)
            (tmp_path / folder.name / path.name).write_bytes(path.read_bytes())
    assert build.check(shards=tmp_path).whole
    for name in ("shard-00000-of-00004.json", "shard-00000-of-00004.rows.json"):
        record = next((build.root / "work/shards").rglob(name))
        (tmp_path / record.parent.name / record.name).write_bytes(record.read_bytes())
    found = build.check(shards=tmp_path).findings
    assert [Path(finding.file).name for finding in found] == [f"shard-0000{n}-of-00004.json" for n in (1, 2, 3)]
