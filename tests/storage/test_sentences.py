"""What a user sees when an object store refuses: one sentence, exit code 1, no traceback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import s3fs

from tests.cli.conftest import Said, Shop
from tests.storage.objects import CREDENTIALS, Store
from tests.storage.proxy import always

STAGES = ("run", "tokenize", "plan", "verify")


@pytest.fixture
def shop(tmp_path: Path, store: Store, quick: None) -> Iterator[Shop]:
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack)
        shop.stock()
        store.put("in/data/a.jsonl", (tmp_path / "data/a.jsonl").read_bytes())
        yield shop


def run(shop: Shop, *more: str) -> Said:
    return shop.call("run", "small.yaml", "-j", "1", "--json", *more)


def test_a_missing_bucket_is_named(shop: Shop, store: Store) -> None:
    shop.refused(run(shop, "--work", "s3://no-such-bucket/work"), "s3://no-such-bucket/work", "there is no such bucket")
    shop.refused(run(shop, "--data", "s3://no-such-bucket/in"), "s3://no-such-bucket/in", "there is no such bucket")


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_wrong_credentials_are_told_from_missing_rights(shop: Shop, store: Store, code: str) -> None:
    store.proxy.spoil = always((403, code))
    for place in ("--work", "--data"):
        shop.refused(run(shop, place, f"{store.root}/in"), f"{store.root}/in", "the credentials are refused; renew")
    store.proxy.spoil = always((403, "AccessDenied"))
    for place in ("--work", "--data"):
        shop.refused(run(shop, place, f"{store.root}/in"), f"{store.root}/in", "access is denied; give credentials")


def test_no_credentials_at_all_are_said(shop: Shop, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    s3fs.S3FileSystem.clear_instance_cache()
    for place in ("--work", "--data"):
        shop.refused(run(shop, place, f"{store.root}/in"), "no credentials were found; give them by the environment")
    assert not store.proxy.traffic.requests


def test_a_store_that_cannot_be_reached_is_said(shop: Shop, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        s3fs.S3FileSystem.clear_instance_cache()
        for place in ("--work", "--data"):
            shop.refused(run(shop, place, f"{store.root}/in"), "the store cannot be reached; check the network")


@pytest.mark.parametrize("refusal", [(507, "QuotaExceeded"), (403, "QuotaExceeded")])
def test_a_used_up_quota_is_said_and_the_run_goes_on_when_there_is_room(
    shop: Shop, store: Store, refusal: tuple[int, str]
) -> None:
    expected = run(shop).hashes
    store.proxy.spoil = always(refusal, ["PUT"], "part-00000.arrow")
    place = ("--work", f"{store.root}/work", "--lock", "s3.lock.json")
    shop.refused(run(shop, *place), "part-00000.arrow: the quota is used up; free some space, or give another place")
    assert not [name for name in store.names() if name.endswith("part-00000.arrow")]
    store.proxy.reset()
    assert run(shop, *place).hashes == expected


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ("data", ("in/data: a folder, where files are wanted; name what is in it, as 'data/*'",)),
        ("data/*.parquet", ("no file matches 'data/*.parquet' under s3://", "check the pattern")),
        ("data/a.jsnl", ("in/data/a.jsnl: no such file; did you mean 'a.jsonl'?",)),
        ("other/a.jsonl", ("in/other/a.jsonl: no such file (nor the folder s3://",)),
    ],
)
def test_inputs_that_are_not_there_are_named(shop: Shop, store: Store, paths: str, words: tuple[str, ...]) -> None:
    text = (shop.root / "small.yaml").read_text()
    shop.file("small.yaml", text.replace("data/*.jsonl", paths))
    shop.refused(run(shop, "--data", f"{store.root}/in"), *words)


@pytest.mark.parametrize("option", ["--work", "--data"])
def test_a_store_that_nobody_knows_is_refused(shop: Shop, option: str) -> None:
    shop.refused(run(shop, option, "ftp://host/x"), "ftp://host/x: ftp:// is not known; give a folder, s3://, gs://")


def test_a_hugging_face_folder_in_a_store_is_refused_with_what_to_give(shop: Shop, store: Store) -> None:
    text = (shop.root / "small.yaml").read_text()
    shop.file("small.yaml", text.replace("format: jsonl, paths: [data/*.jsonl]", "format: huggingface, paths: [data]"))
    shop.refused(run(shop, "--data", f"{store.root}/in"), "format: parquet or arrow, or copy the folder")


@pytest.mark.parametrize("code", [(403, "ExpiredToken"), (500, "InternalError")])
@pytest.mark.parametrize(
    "part", ["part-00000.arrow", "part-00000.json", "index.parquet", "slice-", "plan.json", "shard-00001", ".run.json"]
)
def test_a_store_that_stops_answering_at_any_stage_is_one_sentence_and_the_run_goes_on_later(
    shop: Shop, store: Store, part: str, code: tuple[int, str]
) -> None:
    place = ("--work", f"{store.root}/work", "--data", f"{store.root}/in")
    for kinds in (["PUT"], ["GET", "HEAD"]):
        store.proxy.spoil = always(code, kinds, part)
        said = run(shop, *place)
        if store.proxy.traffic.spoilt:
            shop.refused(said, part)
        store.proxy.reset()
    again = run(shop, *place)
    assert again.hashes


@pytest.mark.parametrize("command", STAGES)
def test_every_stage_says_that_the_store_is_away(shop: Shop, store: Store, command: str) -> None:
    place = ("--work", f"{store.root}/work", "--data", f"{store.root}/in")
    assert run(shop, *place).code == 0
    store.proxy.spoil = always("reset")
    said = shop.call(command, "small.yaml", "-j", "1", *place)
    shop.refused(said, "the store cannot be reached")


@pytest.mark.parametrize("command", ["trace", "export"])
def test_every_command_on_a_lock_says_that_the_store_is_away(shop: Shop, store: Store, command: str) -> None:
    place = ("--work", f"{store.root}/work")
    assert run(shop, *place).code == 0
    store.proxy.spoil = always("reset")
    more = ["--sequence", "1"] if command == "trace" else ["--format", "olmo", "--out", f"{store.root}/out", "-j", "1"]
    shop.refused(shop.call(command, "small.lock.json", *more, *place), "the store cannot be reached")
