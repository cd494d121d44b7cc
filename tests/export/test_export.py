"""An export as a whole: same bytes, resumed after a kill, damage refused, phases apart; and the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.errors import LockError, StoreError
from mixture.export import FORMATS
from mixture.export.make import export
from tests.cli.conftest import Shop, shop
from tests.export.conftest import Shelf, Stock
from tests.export.readers import read_megatron

__all__ = ["shop"]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".run.lock"
    }


@pytest.mark.parametrize("format_", FORMATS)
def test_an_export_is_the_same_bytes_with_two_workers(stock: Stock, format_: str) -> None:
    shelf = stock("marked")
    one = shelf.export(format_, "one")
    with Local(2) as engine:
        two = export(shelf.request(format_), shelf.root / "two", engine, Silence())
    assert contents(one.out) == contents(two.out)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_killed_export_goes_on_and_ends_as_an_unbroken_one(stock: Stock, format_: str) -> None:
    shelf = stock("padded", counts=(3, 3, 3))
    done = shelf.export(format_)
    assert len(done.made) == 3
    whole = contents(done.out)
    lost = sorted(path for path in done.out.glob("shard-00001-*"))
    lost[0].unlink()
    (done.out / "export.json").unlink()
    (done.out / ".shard-00001.bin.99-dead.tmp").write_bytes(b"half")
    again = shelf.export(format_)
    assert again.made == ("shard-00001-of-00003.arrow",)
    assert contents(again.out) == whole


def test_a_shard_without_its_record_is_written_again(stock: Stock) -> None:
    shelf = stock("full", counts=(3, 3))
    done = shelf.export("olmo")
    whole = contents(done.out)
    (done.out / ".export" / "0" / "shard-00000-of-00002.json").unlink()
    assert shelf.export("olmo").made == ("shard-00000-of-00002.arrow",)
    assert contents(done.out) == whole


def test_a_whole_export_is_left_alone_and_needs_no_shards(stock: Stock) -> None:
    shelf = stock("full")
    done = shelf.export("parquet")
    whole = contents(done.out)
    shutil.rmtree(shelf.folders[0])
    assert shelf.export("parquet").made == ()
    assert contents(done.out) == whole


def test_while_a_shard_is_not_whole_no_record_says_that_all_is(stock: Stock) -> None:
    shelf = stock("full", counts=(3, 3))
    out = shelf.export("mds").out
    next(out.glob("shard-00000-*.mds")).unlink()
    flip(shelf.shard(0))
    with pytest.raises(StoreError, match="damaged"):
        shelf.export("mds")
    assert not (out / "export.json").exists()


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_damaged_shard_is_never_exported(stock: Stock, format_: str) -> None:
    shelf = stock("full", counts=(3, 3))
    flip(shelf.shard(1))
    with pytest.raises(StoreError, match=r"shard-00001-of-00002\.arrow: damaged, its hash is .* the lock says"):
        shelf.export(format_)
    assert not list((shelf.root / "out").glob("shard-00001*"))
    assert not (shelf.root / "out" / "export.json").exists()


def test_a_shard_cut_short_is_named_with_its_size(stock: Stock) -> None:
    shelf = stock("full")
    shelf.shard(2).write_bytes(shelf.shard(2).read_bytes()[:-8])
    with pytest.raises(StoreError, match=r"shard-00002-of-00003\.arrow: [\d,]+ bytes, the lock says"):
        shelf.export("fu")


def test_missing_shards_are_refused_before_any_work(stock: Stock) -> None:
    shelf = stock("full")
    shelf.shard(2).unlink()
    with pytest.raises(StoreError, match=r"shard-00002-of-00003\.arrow: this shard is missing \(1 of 3 are\)"):
        shelf.export("megatron")
    assert not list((shelf.root / "out").glob("shard*"))


def test_an_unpacked_lock_is_refused(stock: Stock) -> None:
    shelf = stock("full")
    shelf.lock.phases[0]["shards"] = []
    with pytest.raises(LockError, match="lists no shards yet; run `mixture pack` first"):
        shelf.export("olmo")
    assert not (shelf.root / "out").exists()


def test_a_folder_with_other_files_is_refused_and_left_alone(stock: Stock) -> None:
    shelf = stock("full")
    out = shelf.root / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("no backup")
    with pytest.raises(StoreError, match=r"this folder is not empty \(thesis\.tex\); give a new one with --out"):
        shelf.export("olmo")
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(stock: Stock) -> None:
    shelf = stock("full")
    (shelf.root / "out").write_text("a file")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        shelf.export("olmo")


@pytest.mark.parametrize(("format_", "unit"), [("mds", "row"), ("megatron", "document")])
def test_a_folder_with_another_export_is_refused(stock: Stock, format_: str, unit: str) -> None:
    shelf = stock("full")
    before = contents(shelf.export("megatron").out)
    with pytest.raises(StoreError, match=r"holds another export \(megatron of hand \w{12}\), not m"):
        shelf.export(format_, unit=unit)
    assert contents(shelf.root / "out") == before


def test_a_folder_that_was_only_locked_counts_as_empty(stock: Stock) -> None:
    shelf = stock("full")
    (shelf.root / "out").mkdir()
    (shelf.root / "out" / ".run.lock").touch()
    assert len(shelf.export("olmo").made) == 3


def test_phases_lie_in_folders_of_their_own(stock: Stock) -> None:
    shelf = stock("padded", counts=(2, 2), phases=("long", "cool-down"))
    done = shelf.export("megatron")
    for number, name in enumerate(("long", "cool-down")):
        pairs = [read_megatron(done.out / name / f"shard-{n:05d}-of-00002") for n in range(2)]
        found = [sequence for pair in pairs for sequence in pair.sequences]
        assert found == [row.tokens for row in shelf.truth[number]]
    assert [phase["name"] for phase in done.record["phases"]] == ["long", "cool-down"]


def test_one_phase_can_be_asked_for(stock: Stock) -> None:
    shelf = stock("padded", phases=("long", "cool-down"))
    done = shelf.export("mds", phase="cool-down")
    assert sorted(path.name for path in done.out.iterdir() if path.name[0] != ".") == ["cool-down", "export.json"]
    with pytest.raises(LockError, match=r"no such phase; did you mean 'long'\?"):
        shelf.export("mds", "other", phase="lung")
    with pytest.raises(LockError, match="it has none: leave the option out"):
        stock("full").export("mds", "other", phase="long")


# The command.


def packed(shelf: Shelf) -> str:
    shelf.lock.write(shelf.root / "hand.lock.json")
    return "hand.lock.json"


@pytest.fixture
def counter(stock: Stock, shop: Shop) -> tuple[Shop, Shelf]:
    """A shop whose root holds a packed shelf in its work directory, and its lock."""
    shelf = stock("padded")
    packed(shelf)
    return shop, shelf


def test_the_command_exports_what_the_lock_lists(counter: tuple[Shop, Shelf]) -> None:
    shop, shelf = counter
    said = shop.call("export", "hand.lock.json", "--format", "megatron", "--out", "out", "-j", "1", "--json")
    assert said.code == 0, said.err
    assert said.json["phases"] == json.loads((shelf.root / "out" / "export.json").read_text())["phases"]
    assert said.json["written_now"] == [shard["shard"] for shard in shelf.lock.shards]
    again = shop.call("export", "hand.lock.json", "--format", "megatron", "--out", "out", "-j", "1")
    assert again.code == 0
    assert again.out.startswith("megatron: 11 sequences in 5 files, ")
    assert "nothing to do, all is whole" in again.err


def test_the_command_finds_shards_where_it_is_told(counter: tuple[Shop, Shelf]) -> None:
    shop, shelf = counter
    shutil.move(shelf.folders[0], shelf.root / "elsewhere")
    call: tuple[str, ...] = ("export", "hand.lock.json", "--format", "olmo", "--out", "out", "-j", "1")
    shop.refused(shop.call(*call), "this shard is missing (3 of 3 are)")
    assert shop.call(*call, "--shards", "elsewhere").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "megatrn"), "did you mean 'megatron'?"),
        (("--format", "mds", "--unit", "document"), "mds takes row"),
        (("--format", "megatron", "--unit", "span"), "megatron takes row or document"),
    ],
)
def test_wrong_usage_says_what_is_known(counter: tuple[Shop, Shelf], arguments: tuple[str, ...], words: str) -> None:
    shop, _ = counter
    said = shop.call("export", "hand.lock.json", *arguments, "--out", "out")
    assert said.code == 2
    assert words in " ".join(said.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("lock", "words"),
    [("gone.lock.json", "gone.lock.json: no such lock"), ("small.yaml", "a recipe; name its lock, small.lock.json")],
)
def test_a_lock_must_be_a_lock(counter: tuple[Shop, Shelf], lock: str, words: str) -> None:
    shop, _ = counter
    shop.refused(shop.call("export", lock, "--format", "mds", "--out", "out"), words)


def test_a_packed_recipe_is_exported_as_its_shards_are(shop: Shop) -> None:
    shop.stock()
    made = shop.run()
    assert made.code == 0, made.err
    said = shop.call("export", "small.lock.json", "--format", "megatron", "--out", "out", "-j", "1", "--json")
    assert said.code == 0, said.err
    import pyarrow as pa

    folder = Path(made.json["shards_folders"][0])
    for facts in made.json["phases"][0]["shards"]:
        table: Any = pa.ipc.open_file(folder / facts["shard"]).read_all()
        pair = read_megatron(shop.root / "out" / facts["shard"].removesuffix(".arrow"))
        assert pair.sequences == table["input_ids"].to_pylist()
