"""A token's text is read again from its row, held to its document, and tokenized to what the shard holds."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture.errors import TokenizerError, TraceError, VerifyError
from mixture.recipe.sources import TokenizerSpec
from mixture.tokens.tokenizer import load
from mixture.tokens.training import train_sentencepiece
from mixture.trace import Trace
from mixture.trace.documents import Document
from mixture.trace.excerpt import characters
from tests.conftest import Built
from tests.tokens.conftest import hf_tokenizer, prose
from tests.trace.conftest import Warehouse

QUERIES = 10_000
UTK = "transforms: {utk: {probability: 0.7, parts: 3, room: 24}}\n"


@pytest.fixture(scope="module")
def built(house: Warehouse) -> Built:
    return house.made("text.yaml", more=f"packing: best-fit\n{UTK}", separator="bos+eos", budget=200_000)


@pytest.fixture(scope="module")
def trace(house: Warehouse, built: Built) -> Trace:
    return house.trace(built)


def test_ten_thousand_random_tokens_are_those_of_their_source(trace: Trace) -> None:
    stream, draw = trace.stream, random.Random(1)
    prefix, suffix = ([stream.lock.phases[0]["stream"][name]] for name in ("prefix", "suffix"))
    origins: dict[tuple[bytes, int], Document | None] = {}
    kinds: Counter[str] = Counter()
    tokens = {number: stream.tokens(number) for number in range(len(stream))}
    rows = {number: stream.row(number) for number in range(len(stream))}
    for _ in range(QUERIES):
        number, place = draw.randrange(len(stream)), draw.randrange(stream.length)
        kind, span = rows[number].at(place)
        kinds[kind] += 1
        held = tokens[number]
        assert held is not None
        if span is None:
            assert (held[place] == 0) if kind == "padding" else (held[place] >= stream.lock.tokenizer["vocabulary"])
            continue
        key = (span.doc_id, span.copy)
        if key not in origins:
            origins[key] = trace.origin(span)
        origin, offset = origins[key], span.offset + place - span.start
        assert origin is not None
        wanted = {"opening separator": prefix[0], "closing separator": suffix[0]}
        assert held[place] == (trace.texts.tokens(origin)[offset] if kind == "document" else wanted[kind][0])
    assert set(kinds) == {"document", "opening separator", "closing separator", "mark", "padding"}


def test_a_token_is_shown_in_its_text(trace: Trace) -> None:
    stream, draw, seen = trace.stream, random.Random(2), Counter[str]()
    for _ in range(150):
        answer = trace.token(draw.randrange(len(stream)), draw.randrange(stream.length))
        seen[answer["kind"]] += 1
        if answer["kind"] != "document":
            assert not answer.get("text")
            continue
        assert answer["equal"] is True
        text, span = answer["text"], answer["document"]
        (row,) = trace.documents.with_ids([bytes.fromhex(span["doc_id"])])[bytes.fromhex(span["doc_id"])]
        whole = trace.texts.text(row)
        shown = f"{text['before']}{text['token']}{text['after']}"
        assert text["token"]
        assert len(text["before"]) <= 100 >= len(text["after"])
        assert shown.encode() in whole
        assert whole[text["byte"] :].startswith(f"{text['token']}{text['after']}".encode())
        if span["source"] == "code":
            seen["member"] += "member" in answer
            assert trace.texts.members(row)
    assert min(seen[kind] for kind in ("document", "padding", "member")) > 0


def test_the_member_of_a_token_is_the_row_that_holds_it(house: Warehouse, trace: Trace) -> None:
    texts = {(origin.file, origin.row): origin.text for origin, _ in house.members}
    found = 0
    for number in range(len(trace.stream)):
        for span in trace.stream.row(number).spans:
            if span.domain != "code" or span.kind(span.start) != "document":
                continue
            answer = trace.token(number, span.start)
            member = answer.get("member")
            if member is None:
                continue
            whole = texts[member["file"], member["row"]].encode()
            assert whole[member["byte"] :].startswith(answer["text"]["token"].encode()[: len(whole) - member["byte"]])
            found += 1
    assert found > 20


@pytest.mark.parametrize("kind", ["bytes", "huggingface", "sentencepiece"])
def test_characters_of_a_token_are_found_whatever_the_vocabulary(tmp_path: Path, kind: str) -> None:
    spec = TokenizerSpec(kind="bytes")
    if kind == "huggingface":
        hf_tokenizer(tmp_path / "t.json")
        spec = TokenizerSpec(kind="huggingface", path="t.json")
    if kind == "sentencepiece":
        train_sentencepiece([prose(20_000)], tmp_path / "t.model", vocab_size=400)
        spec = TokenizerSpec(kind="sentencepiece", path="t.model")
    tokenizer = load(spec, tmp_path, engine="reference")
    exact = kind != "sentencepiece"

    @given(st.text(st.sampled_from("ab the\n漢字🙂é� .1"), min_size=1, max_size=40), st.data())
    @settings(max_examples=60, deadline=None)
    def check(text: str, data: st.DataObject) -> None:
        tokens = tokenizer.encode_text(text)
        if not len(tokens):
            return
        offset = data.draw(st.integers(0, len(tokens) - 1))
        begin = characters(tokenizer, text, tokens, offset)
        end = max(begin + 1, characters(tokenizer, text, tokens, offset + 1, up=True))
        assert 0 <= begin < end
        assert begin <= len(text)
        if exact and "�" not in text:
            # Every character that the token has bytes of, and no other.
            sizes = [len(tokenizer.decode(tokens[:count]).rstrip("�")) for count in (offset, offset + 1)]
            assert begin == sizes[0]
            assert sizes[1] <= end <= sizes[1] + 1

    check()


def _read_from(trace: Trace, source: str) -> tuple[int, int]:
    """Return a place in a document of a source."""
    stream = trace.stream
    for number in range(len(stream)):
        for span in stream.row(number).spans:
            origin = trace.origin(span)
            if origin is not None and origin.source == source and span.kind(span.start) == "document":
                return number, span.start
    raise AssertionError(source)


@pytest.mark.parametrize("source", ["table", "pages", "web"])
def test_a_source_that_is_gone_is_said(house: Warehouse, built: Built, source: str) -> None:
    number, place = _read_from(house.trace(built), source)
    with hidden(sorted(house.data.glob("**/*.*"))):
        answer = house.trace(built).token(number, place)
    assert answer["text"] is None
    assert answer["text_unknown"].endswith(f"is not under {house.root}; give the data root with --data")
    assert answer["equal"] is None
    assert answer["document"]["source"] == source


def test_a_vocabulary_that_is_gone_is_said(house: Warehouse, built: Built) -> None:
    number, place = _read_from(house.trace(built), "pages")
    with hidden([house.root / "tokenizer.json"]):
        answer = house.trace(built).token(number, place)
    assert answer["text_unknown"].startswith("tokenizer.json is not under")
    assert (answer["equal"], answer["document"]["source"]) == (None, "pages")


def test_a_source_that_changed_is_refused(house: Warehouse, built: Built) -> None:
    trace = house.trace(built)
    number, place = _read_from(trace, "pages")
    path = house.root / trace.token(number, place)["document"]["file"]
    with kept(path):
        path.write_text("another text")
        with pytest.raises(TraceError, match="row 0: the file has changed since it was read"):
            house.trace(built).token(number, place)
    with kept(path):
        path.write_text("")
        with pytest.raises(TraceError, match="has changed"):
            house.trace(built).token(number, place)


def test_a_member_that_changed_is_refused(house: Warehouse, built: Built) -> None:
    trace = house.trace(built)
    number, place = _read_from(trace, "code")
    path = house.root / trace.token(number, place)["member"]["file"]
    with kept(path):
        path.write_bytes(path.read_bytes().replace(b'"text":"', b'"text":"x'))
        with pytest.raises(TraceError, match="has changed"):
            house.trace(built).token(number, place)
    with hidden([path]):
        assert house.trace(built).token(number, place)["equal"] is True


def test_a_vocabulary_that_is_another_is_refused(house: Warehouse, built: Built) -> None:
    number, place = _read_from(house.trace(built), "pages")
    path = house.root / "tokenizer.json"
    with kept(path):
        hf_tokenizer(path, words=True)
        with pytest.raises(TokenizerError, match="the lock says"):
            house.trace(built).token(number, place)


def test_tokens_that_are_not_the_source_s_are_refused(
    house: Warehouse, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = house.trace(built)
    number, place = _read_from(trace, "pages")
    own = trace.texts.tokens
    monkeypatch.setattr(trace.texts, "tokens", lambda row: own(row)[::-1])
    with pytest.raises(VerifyError, match="in the tokenized source"):
        trace.token(number, place)
    monkeypatch.setattr(trace.texts, "tokens", lambda row: own(row)[:-1])
    with pytest.raises(VerifyError, match="tokens now"):
        trace.token(number, place)


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    held = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(held)


@contextlib.contextmanager
def hidden(paths: list[Path]) -> Iterator[None]:
    aside = [(path, path.with_name(f"{path.name}.aside")) for path in paths]
    for path, other in aside:
        path.rename(other)
    try:
        yield
    finally:
        for path, other in aside:
            other.rename(path)
