"""`mixture trace` at the command line: every question, every wrong one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.cli.conftest import Said, Shop
from tests.conftest import Document
from tests.trace.test_text import hidden, kept

LOCK = "small.lock.json"


@pytest.fixture(scope="module")
def stall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A built mixture that a whole module asks about."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        shop = Shop(tmp_path_factory.mktemp("stall"), stack)
        shop.stock(more="transforms: {utk: {probability: 0.8, room: 16}}\n", holdout=0.2)
        assert shop.run().code == 0
        yield shop


def ask(shop: Shop, *arguments: str, lock: str = LOCK) -> Said:
    return shop.call("trace", lock, *arguments)


def answer(shop: Shop, *arguments: str) -> Any:
    said = ask(shop, *arguments, "--json")
    assert said.code == 0, said.err
    return said.json


def test_a_sequence_is_shown_with_its_documents_marks_and_padding(stall: Shop) -> None:
    found = answer(stall, "--sequence", "3")
    assert found["from"] == "shards"
    assert {"start", "stop", "domain", "doc_id", "offset", "length", "copy", "source", "file", "row"} == set(
        found["documents"][0]
    )
    said = ask(stall, "-s", "3")
    assert said.code == 0
    assert "sequence 3, from the shards" in said.out
    assert "data/a.jsonl" in said.out
    for span in found["documents"]:
        assert span["doc_id"][:16] in said.out
    assert "padding" in said.out or not found["padding"]


def test_a_token_is_shown_in_its_text(stall: Shop) -> None:
    found = answer(stall, "--sequence", "3", "--token", "10")
    assert (found["kind"], found["equal"]) == ("document", True)
    said = ask(stall, "-s", "3", "-t", "10")
    assert said.code == 0
    assert f"⟦{found['text']['token']}⟧" in said.out
    assert "equal: the tokens in the shard are those of the tokenized source" in said.out
    assert f"read from data/a.jsonl, row {found['document']['row']}" in said.out


def test_marks_padding_and_separators_are_called_so(stall: Shop) -> None:
    kinds: dict[str, tuple[int, int]] = {}
    for number in range(12):
        found = answer(stall, "--sequence", str(number))
        for place in found["marks"][:1]:
            kinds["mark"] = (number, place)
        for start, _ in found["padding"][:1]:
            kinds["padding"] = (number, start)
        for span in found["documents"]:
            if span["offset"] + span["stop"] - span["start"] > span["length"]:
                kinds["closing separator"] = (number, span["stop"] - 1)
    assert len(kinds) == 3
    for kind, (number, place) in kinds.items():
        said = ask(stall, "-s", str(number), "-t", str(place))
        assert said.code == 0
        assert f"place {place}: {kind}" in said.out


def test_a_step_is_shown_by_domains(stall: Shop) -> None:
    found = answer(stall, "--step", "1", "--batch", "8")
    assert found["sequences"] == [8, 16]
    said = ask(stall, "--step", "1", "--batch", "8")
    assert said.code == 0
    assert "step 1: sequences 8-15" in said.out
    for domain in found["domains"]:
        assert domain["domain"] in said.out
    assert "; --json lists all" in ask(stall, "--step", "0", "--batch", "64").out


def test_a_document_is_shown_with_every_place(stall: Shop) -> None:
    doc_id = answer(stall, "--sequence", "3")["documents"][0]["doc_id"]
    by_id = answer(stall, "--doc", doc_id[:10], "--batch", "4")
    origin = by_id["origins"][0]
    by_row = answer(stall, "--file", origin["file"], "--row", str(origin["row"]), "--batch", "4")
    assert by_row["documents"] == [by_id]
    assert any(p["sequence"] == 3 and p["step"] == 0 for c in by_id["phases"][0]["copies"] for p in c["places"])
    said = ask(stall, "-d", doc_id, "-b", "4")
    assert said.code == 0
    assert f"document {doc_id}" in said.out
    assert "step" in said.out
    assert "a document" in ask(stall, "-f", origin["file"], "-r", str(origin["row"])).out


def test_a_document_that_is_held_out_is_called_so(stall: Shop) -> None:
    told = [ask(stall, "-f", "data/a.jsonl", "-r", str(row)) for row in range(20)]
    assert all(said.code == 0 for said in told)
    assert any("held out: no plan draws it (holdout: 0.2)" in said.out for said in told)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing asked for"),
        (["--token", "3"], "nothing asked for"),
        (["--batch", "3"], "nothing asked for"),
        (["--sequence", "1", "--doc", "00000000"], "--sequence and --doc asked for"),
        (["--step", "1"], "--step goes with --batch"),
        (["--file", "data/a.jsonl"], "--file goes with --row"),
        (["--doc", "00000000", "--row", "1"], "--row goes with --file"),
        (["--doc", "00000000", "--token", "1"], "--token goes with --sequence"),
        (["--sequence", "-1"], "greater than or equal"),
        (["--step", "1", "--batch", "0"], "greater than or equal"),
    ],
)
def test_wrong_usage_is_two(stall: Shop, arguments: list[str], words: str) -> None:
    said = ask(stall, *arguments)
    assert said.code == 2
    assert said.out == ""
    flat = " ".join(said.err.replace("│", " ").split())
    assert words in flat


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sequence", "999999"], "sequence 999,999: the stream has"),
        (["--sequence", "0", "--token", "512"], "--token 512: a sequence has 512 places"),
        (["--step", "99999", "--batch", "4"], "steps of 4, numbered from 0"),
        (["--doc", "0123"], "give its 32 hex digits, or the first 8"),
        (["--doc", "0" * 32], "no document of this corpus has that id"),
        (["--file", "data/b.jsonl", "--row", "0"], "did you mean 'data/a.jsonl'?"),
        (["--file", "data/a.jsonl", "--row", "60"], "data/a.jsonl has 60 rows"),
        (["--sequence", "0", "--phase", "long"], "has no such phase"),
    ],
)
def test_what_is_not_there_is_one_sentence(stall: Shop, arguments: list[str], words: str) -> None:
    stall.refused(ask(stall, *arguments), words)


@pytest.mark.parametrize(("lock", "words"), [("none.lock.json", "no such lock"), ("small.yaml", "name its lock")])
def test_what_is_no_lock_is_one_sentence(stall: Shop, lock: str, words: str) -> None:
    stall.refused(ask(stall, "--sequence", "0", lock=lock), words)


def test_a_beginning_of_several_ids_is_one_sentence(stall: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixture.trace.documents._FEWEST_DIGITS", 1)
    ids = [answer(stall, "-s", str(n))["documents"][0]["doc_id"] for n in range(30)]
    first = next(one[0] for one in ids if len({other for other in ids if other[0] == one[0]}) > 1)
    stall.refused(ask(stall, "--doc", first), "documents begin like that", "give more digits")


def test_a_source_that_changed_is_one_sentence_and_one_that_is_gone_a_note(stall: Shop) -> None:
    path = stall.data / "a.jsonl"
    with kept(path):
        path.write_bytes(path.read_bytes().replace(b'"text":"', b'"text":"x'))
        stall.refused(ask(stall, "-s", "3", "-t", "10"), "data/a.jsonl, row", "has changed since it was read")
    with hidden([path]):
        said = ask(stall, "-s", "3", "-t", "10")
    assert said.code == 0
    assert f"text: not shown, data/a.jsonl is not under {stall.root}; give the data root with --data" in said.out


def _plans(shop: Shop) -> list[Path]:
    return [shop.root / "work" / "plans"]


def _shards(shop: Shop) -> list[Path]:
    return [shop.root / "work" / "shards"]


def test_without_the_plan_shards_tell_of_sequences_and_nobody_of_documents(stall: Shop) -> None:
    doc_id = answer(stall, "-s", "3")["documents"][0]["doc_id"]
    whole = answer(stall, "-s", "3")
    with hidden(_plans(stall)):
        assert answer(stall, "-s", "3") == whole
        stall.refused(ask(stall, "--doc", doc_id), "the plan of small", "run `mixture plan`")
    with hidden(_shards(stall)):
        assert answer(stall, "-s", "3") == whole | {"from": "plan"}
        said = ask(stall, "-s", "3", "-t", "10")
        assert "not compared with a shard: it is not here" in said.out
        assert answer(stall, "--doc", doc_id)["phases"][0]["copies"]
    with hidden([*_plans(stall), *_shards(stall)]):
        stall.refused(ask(stall, "-s", "3"), "the plan of small", "run `mixture plan`")


def test_without_the_index_files_are_not_known(stall: Shop) -> None:
    with hidden([stall.root / "work" / "index"]):
        found = answer(stall, "-s", "3")
        assert all(span["file"] is None for span in found["documents"])
        said = ask(stall, "-s", "3")
        assert "the index is not here; run `mixture bucket`" in said.out
        assert ask(stall, "-s", "3", "-t", "10").code == 0
        stall.refused(ask(stall, "--doc", found["documents"][0]["doc_id"]), "the index is not here")


def test_without_the_store_a_row_is_not_found(stall: Shop) -> None:
    with hidden([stall.root / "work" / "store"]):
        stall.refused(ask(stall, "-f", "data/a.jsonl", "-r", "0"), "the store is not here", "run `mixture tokenize`")
        assert answer(stall, "-s", "3", "-t", "10")["equal"] is True


def test_shards_may_lie_elsewhere(stall: Shop, tmp_path: Path) -> None:
    (folder,) = (stall.root / "work" / "shards").iterdir()
    shutil.copytree(folder, tmp_path / "there")
    with hidden(_shards(stall)):
        found = answer(stall, "-s", "3", "--shards", str(tmp_path / "there"))
    assert found["from"] == "shards"


def test_a_stream_that_is_not_packed_with_whole_documents_is_one_sentence(shop: Shop) -> None:
    shop.stock(more="packing: best-fit\n")
    assert shop.call("plan", "small.yaml", "--workers", "1").code == 0
    shop.refused(ask(shop, "-s", "0"), "packing best-fit", "run `mixture pack` first")
    shop.refused(ask(shop, "-f", "data/a.jsonl", "-r", "0"), "run `mixture pack` first")


def test_a_rejected_row_says_why(shop: Shop) -> None:
    shop.stock(more="on_bad_row: skip\n")
    path = shop.data / "a.jsonl"
    path.write_bytes(b'{"text": 5}\n' + path.read_bytes())
    assert shop.run().code == 0
    said = ask(shop, "-f", "data/a.jsonl", "-r", "0")
    assert said.code == 0
    assert "no document: text is not a string" in said.out
    with hidden([path]):
        assert "no document: it was rejected, or is blank" in ask(shop, "-f", "data/a.jsonl", "-r", "0").out


def test_asking_writes_nothing(stall: Shop) -> None:
    def files() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in stall.root.rglob("*") if p.is_file()}

    before = files()
    for arguments in (
        ["-s", "1"],
        ["-s", "1", "-t", "2"],
        ["--step", "0", "-b", "2"],
        ["-f", "data/a.jsonl", "-r", "1"],
    ):
        assert ask(stall, *arguments).code == 0
    assert files() == before


def test_a_damaged_shard_is_one_sentence_wherever_the_damage_is(stall: Shop) -> None:
    (folder,) = (stall.root / "work" / "shards").iterdir()
    path = min(folder.glob("*.arrow"))
    whole, doc_id = path.read_bytes(), answer(stall, "-s", "0")["documents"][0]["doc_id"]
    with pa.ipc.open_file(whole) as reader:
        spans = reader.get_batch(0).column("spans")
    # Where the spans of a row begin, and where the name of a domain does: Arrow itself would end the process there.
    for buffer in (spans.buffers()[1], spans.flatten().field("domain").buffers()[1]):
        begins = buffer.to_pybytes()
        with kept(path):
            at = whole.index(begins[: 4 * len(spans)]) + 4
            path.write_bytes(whole[:at] + (1 << 30).to_bytes(4, "little") + whole[at + 4 :])
            for question in (["-s", "0"], ["--doc", doc_id]):
                stall.refused(ask(stall, *question), f"{path}: damaged", "run `mixture pack` to write it again")
    with kept(path):
        at = whole.index(spans.flatten().field("stop").buffers()[1].to_pybytes()[: 4 * len(spans)])
        path.write_bytes(whole[:at] + (1 << 30).to_bytes(4, "little") + whole[at + 4 :])
        stall.refused(ask(stall, "-s", "0"), f"{path}: damaged, the spans of sequence 0 do not follow each other")
    with kept(path):
        path.write_bytes(whole.replace(b"doc_offset", b"doc_offsat"))
        stall.refused(ask(stall, "-s", "0"), f"{path}: no shard, its columns are", "doc_offsat")


def test_phases_are_told_apart_and_their_shards_may_lie_elsewhere_each_in_its_folder(shop: Shop) -> None:
    path = shop.stock(more="phases:\n  - {name: one, budget: 8_000}\n  - {name: two, budget: 8_000}\n")
    path.write_text(path.read_text().replace("budget: 20000\n", ""))
    assert shop.run().code == 0
    assert "phase one: not drawn: the quota of its domain" in "".join(
        ask(shop, "-f", "data/a.jsonl", "-r", str(row)).out for row in range(20)
    )
    written = answer(shop, "-s", "3", "--phase", "two")
    (shop.root / "work" / "shards").rename(shop.root / "there")
    assert answer(shop, "-s", "3", "--phase", "two", "--shards", "there") == written
    assert answer(shop, "-s", "3", "--phase", "two") == written | {"from": "plan"}
    shop.refused(ask(shop, "-s", "3", "--phase", "two", "--shards", "nowhere"), "--shards nowhere: no such folder")


def test_a_text_does_not_reach_the_terminal_as_commands(shop: Shop) -> None:
    documents = [
        Document(f"\x1b[31m{number}\x07 \x9b32m\x7f[bold]words[/bold]\tand\nlines " * 40, "books")
        for number in range(30)
    ]
    shop.stock()
    shop.corpus(documents)
    assert shop.run("--debug").code == 0
    text = answer(shop, "-s", "0", "-t", "9")["text"]
    assert "\x1b[31m" in text["after"]
    said = ask(shop, "-s", "0", "-t", "9").out
    assert "␛[31m" in said
    assert "[bold]words[/bold]" in said
    assert not set(said) & {"\x1b", "\x07", "\x9b", "\x7f"}
