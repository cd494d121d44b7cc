"""Damage of every kind: the file is named, the remedy works, and what is not asked for is never written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mixture.storage import read_json, write_json
from tests.cli.conftest import EASY, Said, Shop
from tests.conftest import given_back, recipe_text


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


class Made(Shop):
    """A shop whose run is done; every test gives back what it took."""

    expected: list[str]

    def shard(self, number: int) -> Path:
        return sorted((self.root / "work/shards").rglob("*.arrow"))[number]

    def only(self, pattern: str) -> Path:
        (path,) = (self.root / "work").rglob(pattern)
        return path

    def verify(self) -> Said:
        return self.call("verify", "small.yaml", "--workers", "1")

    def again(self) -> None:
        """Claim that one more run mends everything."""
        said = self.run()
        assert said.code == 0, said.err
        assert said.hashes == self.expected
        assert self.verify().code == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with ExitStack() as stack:
        shop = Made(tmp_path_factory.mktemp("made"), stack)
        shop.stock(sources=shop.source("jsonl", "data/*.jsonl", more=", carry: [meta.set]"))
        shop.expected = shop.run().hashes
        yield shop


@pytest.fixture
def made(finished: Made) -> Iterator[Made]:
    """The finished shop, given back as it was."""
    with given_back(finished.root):
        yield finished


# Shards.


def _place_of(shard: Path, row: int, column: str) -> int:
    """Return where in the file a row's tokens or spans lie, the first byte of them."""
    whole = shard.read_bytes()
    with pa.ipc.open_file(pa.memory_map(str(shard))) as reader:
        batch = reader.get_batch(0)
        if column == "input_ids":
            ids = batch.column("input_ids").flatten()
            wanted = np.asarray(ids.slice(row * 512, 512)).tobytes()
        else:
            spans = batch.column("spans")
            flat = spans.flatten().field("doc_offset")
            first = spans.offsets[row].as_py()
            all_offsets = np.asarray(flat).tobytes()
            return whole.index(all_offsets) + 8 * first
    assert whole.count(wanted) == 1
    return whole.index(wanted)


@pytest.mark.parametrize("column", ["input_ids", "spans"])
@pytest.mark.parametrize("row", [0, 7])
def test_one_flipped_bit_is_found_with_its_shard_and_row(made: Made, column: str, row: int) -> None:
    shard = made.shard(1)
    _flip(shard, _place_of(shard, row, column))
    said = made.refused(made.verify(), f"{shard}, row {row}")
    assert "(domain " in said or column == "spans"
    shard.unlink()
    made.again()


def test_a_token_beyond_the_vocabulary_is_named_with_its_place(made: Made) -> None:
    shard = made.shard(0)
    _flip(shard, _place_of(shard, 3, "input_ids") + 2 * 5 + 1)  # The high byte of token 5.
    made.refused(made.verify(), f"{shard}, row 3", "token 5", "outside the vocabulary of 258")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_cut, ("damaged",)),
        (_grow, ("damaged",)),
        (lambda path: path.write_bytes(b""), ("damaged",)),
        (Path.unlink, ("this shard is missing", "mixture pack")),
    ],
)
def test_a_shard_cut_grown_or_gone_is_named_and_the_next_run_makes_it_again(
    made: Made, damage: Callable[[Path], Any], words: tuple[str, ...]
) -> None:
    shard = made.shard(1)
    damage(shard)
    made.refused(made.verify(), f"{shard}: ", *words)
    made.again()


def test_swapped_shards_are_told_apart(made: Made) -> None:
    one, two = made.shard(0), made.shard(1)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    made.refused(made.verify(), f"{one}, row 0", "hash")


def test_two_workers_find_the_same_damage_as_one(made: Made) -> None:
    shard = made.shard(1)
    _flip(shard, _place_of(shard, 7, "input_ids"))
    said = made.call("verify", "small.yaml", "--workers", "2")
    made.refused(said, f"{shard}, row 7")


def test_shards_in_another_folder_are_verified_there(made: Made, tmp_path: Path) -> None:
    for shard in made.shard(0).parent.glob("*.arrow"):
        (tmp_path / shard.name).write_bytes(shard.read_bytes())
    said = made.call("verify", "small.yaml", "--shards", str(tmp_path), "-j", "1")
    assert said.code == 0, said.err
    (tmp_path / made.shard(2).name).unlink()
    made.refused(made.call("verify", "small.yaml", "--shards", str(tmp_path), "-j", "1"), made.shard(2).name, "missing")


@pytest.mark.parametrize(
    "pattern", ["index.parquet", "slice-00000.parquet", "part-00000.documents.parquet", "plan.json"]
)
def test_damage_of_what_shards_were_made_from_is_found_and_the_next_run_mends_it(made: Made, pattern: str) -> None:
    path = made.only(pattern)
    _flip(path, path.stat().st_size // 2)
    made.refused(made.verify(), f"{path}: damaged", "remove it and run")
    path.unlink()
    made.refused(made.verify(), f"{path}: this file of the ", "is missing")
    made.again()


def test_every_finding_is_told_and_json_lists_them(made: Made) -> None:
    shard, index = made.shard(1), made.only("index.parquet")
    _flip(shard, _place_of(shard, 7, "input_ids"))
    _flip(index, 500)
    said = made.verify()
    made.refused(said, f"{shard}, row 7", "the first of 2 findings")
    assert f"{index}: damaged" in said.err
    said = made.call("verify", "small.yaml", "--workers", "1", "--json")
    assert said.code == 1
    assert [(f["kind"], f["file"], f.get("row")) for f in said.json["findings"]] == [
        ("shard", str(shard), 7),
        ("index", str(index), None),
    ]
    assert said.json["not_checked"] == ["quotas, caps and copies over all shards: shards are damaged"]


def test_a_work_directory_without_store_and_plan_is_verified_as_far_as_it_goes(made: Made) -> None:
    for room in ("store", "plans"):
        shutil.rmtree(made.root / "work" / room)
    said = made.verify()
    assert said.code == 0, said.err
    assert "store: not here" in said.out
    assert "plan: not here" in said.out
    for path in (made.root / "work/index").rglob("census.json"):
        path.unlink()
    made.refused(made.verify(), "census.json: this file of the index is missing")


# The work directory.


def _without_shards(made: Made) -> None:
    for path in (made.root / "work/shards").rglob("shard-*"):
        path.unlink()


def test_a_flipped_bit_in_the_token_store_is_never_packed(made: Made) -> None:
    part = made.only("part-*.arrow")
    _flip(part, part.stat().st_size // 2)
    _without_shards(made)
    made.refused(made.run(), f"{part}: ", "damaged", "remove it")
    assert not list((made.root / "work/shards").rglob("*.arrow"))
    part.unlink()
    made.again()


@pytest.mark.parametrize("damage", [_cut, _grow, Path.unlink])
def test_a_store_part_cut_grown_or_gone_is_made_again(made: Made, damage: Callable[[Path], Any]) -> None:
    damage(made.only("part-*.arrow"))
    _without_shards(made)
    made.again()


DERIVED = ["part-*.documents.parquet", "part-*.columns-*.parquet", "index.parquet", "plans/*/slice-00000.parquet"]


@pytest.mark.parametrize("pattern", DERIVED)
@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "gone"])
def test_a_damaged_table_is_named_or_made_again_never_used(made: Made, pattern: str, damage: str) -> None:
    path = made.only(pattern)
    _without_shards(made)
    _forget_what_follows(made, pattern)
    if damage == "gone":
        path.unlink()
        made.again()
        return
    if damage == "bit":
        # Ids come first in an index; further back are columns that a plan does not read.
        _flip(path, 200 if pattern == "index.parquet" else path.stat().st_size // 3)
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-60])
    made.refused(made.run(), str(path), "damaged", "remove it")
    path.unlink()
    made.again()


def _forget_what_follows(made: Made, pattern: str) -> None:
    """Remove what was made from a table, so that it is read again."""
    order = ["part-", "index", "plans"]
    stage = next(n for n, word in enumerate(order) if pattern.startswith(word))
    for folder in ("index", "plans")[stage:]:
        for path in (made.root / "work" / folder).rglob("*.json"):
            path.unlink()


RECORDS = [
    "part-00000.json",
    "done-0-of-1.columns-*.json",
    "index.json",
    "census.json",
    "plan.json",
    "shard-00001-of-*[0-9].json",
    "inputs.json",
]


@pytest.mark.parametrize("pattern", RECORDS)
@pytest.mark.parametrize("content", [b"", b"garbage", b"[]", b"null", b"{}", b"\xff", b'"x"'])
def test_a_damaged_record_is_named_and_removed_it_is_made_again(made: Made, pattern: str, content: bytes) -> None:
    path = made.only(pattern)
    path.write_bytes(content)
    made.refused(made.run(), f"{path}: ", "damaged", "remove it")
    path.unlink()
    made.again()


# Locks.


def _lock(made: Made) -> Path:
    return made.root / "small.lock.json"


@pytest.mark.parametrize("command", ["verify", "report"])
def test_without_a_lock_the_command_that_makes_one_is_named(shop: Shop, command: str) -> None:
    shop.stock()
    words = ("small.lock.json: no lock there", "mixture plan", "--lock")
    shop.refused(shop.call(command, "small.yaml"), *words)
    assert not (shop.root / "work").exists()


def test_verify_before_pack_says_what_is_missing(shop: Shop) -> None:
    shop.stock()
    assert shop.call("plan", "small.yaml", "-j", "1").code == 0
    shop.refused(shop.call("verify", "small.yaml"), "lists no shards yet", "mixture pack")
    assert shop.call("report", "small.yaml").code == 0


@pytest.mark.parametrize("command", ["verify", "report", "run", "plan"])
def test_a_lock_edited_by_hand_is_refused(made: Made, command: str) -> None:
    lock = json.loads(_lock(made).read_bytes())
    lock["made"]["phases"][0]["stream"]["tokens"] += 1
    _lock(made).write_text(json.dumps(lock))
    words = ("small.lock.json: its content does not match its fingerprint", "edited or damaged", "from git")
    made.refused(made.call(command, "small.yaml"), *words)


@pytest.mark.parametrize("command", ["verify", "report", "run"])
@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"[]", b"{}", b'{"format": 99}', b'{"format": 1, "name": "small"}']
)
def test_a_lock_that_is_none_is_refused(made: Made, command: str, content: bytes) -> None:
    _lock(made).write_bytes(content)
    made.refused(made.call(command, "small.yaml"), "small.lock.json")
    _lock(made).unlink()
    if command == "run":
        made.again()


@pytest.mark.parametrize("command", ["verify", "report", "run", "plan"])
def test_the_lock_of_another_recipe_is_refused_with_both_names(made: Made, command: str) -> None:
    before = _lock(made).read_bytes()
    made.file("other.yaml", recipe_text(**EASY).replace("name: small", "name: other"))
    said = made.call(command, "other.yaml", "--lock", "small.lock.json")
    made.refused(said, "this is the lock of recipe 'small', not of 'other'", "--lock")
    assert _lock(made).read_bytes() == before


@pytest.mark.parametrize("command", ["verify", "report"])
def test_the_lock_of_an_earlier_state_names_what_changed(made: Made, command: str) -> None:
    text = (made.root / "small.yaml").read_text()
    made.file("small.yaml", text.replace("seed: 7", "seed: 8").replace("max_epochs: 4", "max_epochs: 3"))
    words = ("another state of the recipe", "mix.max_epochs: 4 → 3", "seed: 7 → 8", "mixture plan", "mixture pack")
    made.refused(made.call(command, "small.yaml"), *words)


def test_shards_that_differ_from_a_packed_lock_are_not_passed_off_as_it(made: Made) -> None:
    path = made.only("shard-00001-of-*[0-9].json")
    write_json(path, read_json(path) | {"hash": "0" * 32})
    made.refused(made.run(), "shard-00001", "0" * 32, "small.lock.json")
