"""Any damage to any file of a build is found, and the file is named."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mixture import lockfile
from mixture.engine import Task
from mixture.errors import LockError, StoreError
from mixture.storage import read_json, unsealed, write_json
from tests.verify.conftest import Build

DAMAGES = 1_200
KINDS = ("bit", "bits", "cut", "grown", "swap", "gone", "zeros")


def _room(path: Path, build: Build) -> str:
    """Name the room that a file lies in, records apart from what they speak of."""
    if path == build.job.lock_path:
        return "lock"
    room = path.relative_to(build.root / "work").parts[0]
    return f"{room} record" if path.suffix == ".json" else room


def _damage(kind: str, path: Path, other: Path, draw: random.Random) -> bool:
    """Damage a file; return whether that is a damage at all."""
    content = bytearray(path.read_bytes())
    at = draw.randrange(len(content))
    if kind == "bit":
        content[at] ^= 1 << draw.randrange(8)
    elif kind == "bits":
        for _ in range(draw.randrange(2, 9)):
            content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
    elif kind == "cut":
        del content[at:]
    elif kind == "grown":
        content += draw.randbytes(draw.randrange(1, 100))
    elif kind == "zeros":
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    elif kind == "swap":
        mine, theirs = bytes(content), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(mine)
        return mine != theirs
    else:
        path.unlink()
        # Without it files are hashed again, which is no loss.
        return path.name != "inputs.json"
    changed = bytes(content) != path.read_bytes()
    path.write_bytes(content)
    return changed


def test_random_damages_of_every_kind_to_every_file_are_found_and_named(build: Build) -> None:
    assert build.check().whole
    draw = random.Random(20)
    rooms: dict[str, list[Path]] = {}
    for path in build.files:
        rooms.setdefault(_room(path, build), []).append(path)
    tried: Counter[tuple[str, str]] = Counter()
    while tried.total() < DAMAGES:
        kind, room = draw.choice(KINDS), draw.choice(sorted(rooms))
        path, other = draw.choice(rooms[room]), draw.choice(build.files)
        touched = {path, other} if kind == "swap" else {path}
        before = {p: p.read_bytes() for p in touched}
        if _damage(kind, path, other, draw):
            found = build.check()
            named = {Path(finding.file) for finding in found.findings}
            assert touched & named, (kind, touched, found.to_json())
            # A file that changed places with the lock or with a record is judged by that: there, the record is named.
            assert touched <= named or any(p.suffix == ".json" for p in touched & named), (touched, found.to_json())
            assert all(finding.message for finding in found.findings)
            tried[room, kind] += 1
        for p, content in before.items():
            p.write_bytes(content)
    assert build.check().whole
    # No kind of damage and no room was left out.
    assert {room for room, _ in tried} == {
        *("lock", "index", "index record", "joined", "joined record", "plans", "plans record", "inputs.json record"),
        *("related", "related record", "shards", "shards record", "store", "store record"),
    }
    assert {kind for _, kind in tried} == set(KINDS)


def _flips(content: bytes) -> Iterator[bytes]:
    """Yield a file's bytes with each bit flipped in turn."""
    flipped = bytearray(content)
    for at in range(8 * len(content)):
        flipped[at // 8] ^= 1 << at % 8
        yield bytes(flipped)
        flipped[at // 8] ^= 1 << at % 8


def test_every_single_flipped_bit_of_a_lock_is_refused_with_its_name(build: Build) -> None:
    path = build.job.lock_path
    content = path.read_bytes()
    assert unsealed(content, "lock") is not None
    assert lockfile.read(path) is not None
    for number, flipped in enumerate(_flips(content)):
        assert unsealed(flipped, "lock") is None, number
        # Reading asks just that; it is asked itself now and then, for what it says.
        if number % 97 == 0:
            path.write_bytes(flipped)
            with pytest.raises(LockError, match=re.escape(str(path))):
                lockfile.read(path)


@pytest.mark.parametrize("room", ["plans", "index", "store", "joined", "shards"])
def test_every_single_flipped_bit_of_the_records_is_refused(build: Build, room: str) -> None:
    records = [path for path in build.files if _room(path, build) == f"{room} record"]
    assert records
    for path in records:
        content = path.read_bytes()
        assert unsealed(content, path.name) is not None
        for number, flipped in enumerate(_flips(content)):
            assert unsealed(flipped, path.name) is None, (path, number)


def test_a_flipped_bit_in_a_token_is_named_with_its_row_and_cell(build: Build) -> None:
    shard = next(path for path in build.files if path.name == "shard-00002-of-00006.arrow")
    assert len(read_json(shard.with_suffix(".rows.json"))) > 1
    content = bytearray(shard.read_bytes())
    # The middle of the file lies in the tokens, which take most of it; an even byte is the low one of an id.
    content[len(content) // 4 * 2] ^= 1
    shard.write_bytes(content)
    (finding,) = build.check().findings
    assert (finding.kind, finding.file) == ("shard", str(shard))
    assert finding.row is not None
    assert f"{shard}, row {finding.row}: its tokens or spans do not have the hash" in finding.message
    assert "(domain " in finding.message


def _names(unit: Path) -> set[str]:
    return {path.name for path in unit.iterdir()}


def test_a_part_that_took_another_part_s_place_with_all_its_files_is_found(build: Build) -> None:
    units = sorted((build.root / "work/store").glob("*/*/"))
    one, two = [unit for unit in units if _names(unit) == _names(units[0])][:2]
    for path in sorted(one.iterdir()):
        other = two / path.name
        mine, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(mine)
    found = build.check()
    named = {Path(finding.file).parent for finding in found.findings}
    assert {one, two} <= named
    assert any("its part is" in finding.message for finding in found.findings)


@pytest.mark.slow
def test_whatever_is_removed_the_next_run_makes_again_and_all_is_whole(build: Build) -> None:
    job = build.job
    hashes = [shard["hash"] for shard in lockfile.require(job.lock_path, "small").shards]
    # Files of one kind are made by one piece of code: one of each will do.
    kinds = {(_room(path, build), re.sub(r"[0-9a-f]{5,}", "", path.name)): path for path in build.files}
    assert len(kinds) > 20
    for path in kinds.values():
        path.unlink()
        store = job.tokenize()
        packed = job.pack(store, job.plan(store, job.bucket(store)))
        found = build.check()
        assert found.whole, (path, found.to_json())
        assert [shard["hash"] for shard in packed.lock.shards] == hashes
        assert path.exists() or path.name == "inputs.json", path


def test_hashes_of_rows_that_are_another_shard_s_are_found_by_the_record_beside_them(build: Build) -> None:
    first, second = sorted((build.root / "work/shards").iterdir())
    # The seal knows the name alone, which is the same in both folders where both have as many shards.
    path = next(first.glob("shard-00000-*.rows.json"))
    theirs = next(second.glob("shard-00000-*.rows.json"))
    write_json(path, read_json(theirs))
    (finding,) = build.check().findings
    assert finding.file == str(path)
    assert "it is not the one that the record beside it names" in finding.message


def test_packing_again_reads_no_part_of_the_store_that_was_read_in_this_state(build: Build) -> None:
    job, asked = build.job, []
    real = job.engine.run
    shard = next(path for path in build.files if path.name == "shard-00000-of-00006.arrow")
    store = job.tokenize()
    plan = job.plan(store, job.bucket(store))

    class Noting:
        def run(self, tasks: Sequence[Task], stage: str) -> Iterator[tuple[Task, object]]:
            asked.extend(task.function.partition(":")[2] for task in tasks)
            return real(tasks, stage)

    noting = dataclasses.replace(job, engine=Noting())
    for expected in (["check_parts", "write_shard"], ["write_shard"]):
        (build.root / "work/inputs.json").unlink() if "check_parts" in expected else None
        shard.unlink()
        noting.pack(store, plan)
        assert asked == expected
        asked.clear()
    part = store.parts[0].files.tokens
    part.write_bytes(part.read_bytes()[:-1] + b"\xff")
    shard.unlink()
    with pytest.raises(StoreError, match=re.escape(f"{part}: missing or damaged (hash")):
        noting.pack(store, plan)
    assert asked == ["check_parts"]
