"""A haystack is whole text in tokens, its sentence ends are known, and nothing in it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from mixture.errors import MonitorError
from mixture.hashing import document_ids, draw, fraction
from mixture.monitor.codec import open_codec
from mixture.monitor.haystack import Haystack, Text, of_texts, of_tokens
from mixture.monitor.probes import Lots
from mixture.monitor.tasks import probes
from mixture.monitor.unseen import (
    check_unseen,
    haystack_of_files,
    haystack_of_holdout,
    held_out,
    texts_in,
    trained_on,
)
from mixture.trace import Trace
from tests.conftest import Built, Document, Kitchen, documents
from tests.monitor.texts import VOCABULARIES, codec_of, sentences
from tests.tokens.conftest import _small_ranks, home

__all__ = ["_small_ranks", "home"]

BYTES = open_codec("bytes")


def hay(*texts: str) -> Haystack:
    return of_texts(BYTES, (Text(str(n), text) for n, text in enumerate(texts)), "tales")


def test_sentences_end_where_a_stop_and_a_blank_are() -> None:
    found = hay('He ran. "Why?" Pi is 3.14!\nSo be it')
    whole = BYTES.decode(found.tokens)
    ends = [whole[:end][-5:] for end in found.ends if end]
    # A quote is a byte of its own and hides the question mark; 3.14 ends nothing.
    assert ends == [" ran.", "3.14!"]
    assert found.ends[0] == 0


@pytest.mark.parametrize("name", VOCABULARIES)
def test_every_sentence_of_a_text_ends_in_every_vocabulary(name: str, home: Path) -> None:
    codec = codec_of(name, home)
    text = sentences(40)
    found = of_texts(codec, [Text("a", text)], "a tale")
    assert codec.decode(found.tokens).strip() == text
    parts = [codec.decode(part).strip() for part in np.split(found.tokens, found.ends[1:])]
    assert parts.pop() == "", "the last sentence ends before the blank line and after it"
    assert len(parts) == 40
    assert all(part.endswith(".") and part.count(".") == 1 for part in parts)


def test_wide_full_stops_need_no_blank(tmp_path: Path) -> None:
    import tokenizers

    text = "狼走了。狐狸来了！鸡呢？没有了。"  # noqa: RUF001
    vocabulary = {"[UNK]": 0, **{character: n for n, character in enumerate(sorted(set(text)), 1)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    made.decoder = tokenizers.decoders.Fuse()
    made.save(str(tmp_path / "tokenizer.json"))
    found = of_texts(open_codec(tmp_path), [Text("a", text)], "a tale")
    assert found.ends.tolist() == [0, 4, 9, 12, 16]


def test_documents_follow_each_other_after_a_blank_line_and_begin_at_an_end() -> None:
    found = hay("ab", "", "cde")
    assert BYTES.decode(found.tokens) == "ab\n\ncde\n\n"
    assert found.documents == 2
    assert found.ends.tolist() == [0, 4]


def test_a_haystack_holds_as_many_tokens_as_asked_for_and_reads_no_further() -> None:
    read = []

    def texts() -> object:
        for number in range(9):
            read.append(number)
            yield np.full(10, number, np.int64)

    found = of_tokens(BYTES, texts(), "numbers", most=25)  # type: ignore[arg-type]
    assert len(read) == 3
    assert (found.tokens == 2).sum() == 25 - 2 * 12
    assert len(found) == 25 + 2


def test_text_around_an_end_goes_round_the_ring() -> None:
    found = hay("One fox. Two hens.")
    whole = BYTES.decode(found.tokens)
    seen = set()
    for number in range(20):
        before, after = found.around(6, len(found) - 6, Lots(0, "test", number))
        assert sorted(BYTES.decode(np.concatenate([before, after]))) == sorted(whole)
        assert BYTES.decode(before) + BYTES.decode(after) in whole + whole
        seen.add(BYTES.decode(before))
    assert seen == {"e fox.", " hens.", "ens.\n\n"}


def test_ends_of_a_stretch_are_places_in_it() -> None:
    found = hay("One fox. Two hens. Three.")
    for number in range(10):
        text, ends = found.stretch(20, Lots(0, "test", number))
        assert ends[0] == 0
        assert len(text) == 20
        for end in ends[1:].tolist():
            assert BYTES.decode(text[:end])[-1] in ".\n"


def test_no_text_is_no_haystack() -> None:
    with pytest.raises(MonitorError, match=r"^tales: no text for a haystack"):
        hay("", "")


# What was trained on.


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> object:
    from contextlib import ExitStack

    with ExitStack() as stack:
        kitchen = Kitchen(tmp_path_factory.mktemp("kitchen"), stack)
        kitchen.corpus(CORPUS)
        yield kitchen.build(
            budget=40_000, domains="natural", lengths="natural", holdout="{default: 0.2, domains: {wiki: 0.5}}"
        )


CORPUS = [Document(f"{d.text}\n{sentences(3, n)}", d.domain) for n, d in enumerate(documents(90))]
SHARE = {"books": 0.2, "code": 0.2, "wiki": 0.5}


def trace_of(built: Built) -> Trace:
    return Trace(built.lock, built.job.workspace)


def doc_id(text: str) -> bytes:
    return document_ids([text.encode()])


def is_held(document: Document) -> bool:
    hi, lo = (np.array([int.from_bytes(doc_id(document.text)[at : at + 8], "big")], np.uint64) for at in (0, 8))
    return bool(draw(0, "holdout", hi, lo)[0] < np.uint64(fraction(SHARE[document.domain])))


def test_the_hold_out_is_every_document_that_no_plan_draws_by_id(built: Built) -> None:
    held = {doc_id(d.text): d for d in CORPUS if is_held(d)}
    found = list(held_out(trace_of(built)))
    assert [one.doc_id for one in found] == sorted(held)
    assert all(one.domain == held[one.doc_id].domain for one in found)
    assert all(BYTES.decode(one.tokens) == held[one.doc_id].text for one in found)
    assert {d.domain for d in held.values()} == set(SHARE)
    wiki = list(held_out(trace_of(built), ["wiki"]))
    assert [one.doc_id for one in wiki] == [one.doc_id for one in found if one.domain == "wiki"]


def test_a_haystack_of_the_hold_out_is_its_text_alone(built: Built) -> None:
    found = haystack_of_holdout(BYTES, trace_of(built))
    held = sorted(d.text for d in CORPUS if is_held(d))
    assert sorted(BYTES.decode(found.tokens).removesuffix("\n\n").split("\n\n")) == held
    assert len(list(probes("niah", BYTES, found, lengths=(len(found) // 2,), depths=(0.5,)))) == 1


def test_a_model_of_another_vocabulary_reads_the_same_text(built: Built, home: Path) -> None:
    other = codec_of("huggingface", home)
    found = haystack_of_holdout(other, trace_of(built))
    assert other.decode(found.tokens) == BYTES.decode(haystack_of_holdout(BYTES, trace_of(built)).tokens)


def test_what_a_plan_draws_is_known_by_its_id(built: Built) -> None:
    trained = {span["doc_id"] for span in built.spans()}
    ids = {doc_id(d.text) for d in CORPUS}
    assert trained_on(trace_of(built), ids) == trained
    assert trained
    assert trained < ids
    assert trained_on(trace_of(built), [doc_id("never seen")]) == set()


def test_a_file_that_was_trained_on_is_named(built: Built, tmp_path: Path) -> None:
    trained = {span["doc_id"] for span in built.spans()}
    known = next(d.text for d in CORPUS if doc_id(d.text) in trained)
    (tmp_path / "new.txt").write_text(sentences(30, 77))
    assert haystack_of_files(BYTES, [tmp_path], [trace_of(built)]).documents == 1
    rows = [{"text": sentences(5, 78)}, {"text": known}]
    (tmp_path / "some.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")
    with pytest.raises(MonitorError, match=r"some.jsonl, row 1: trained on, the plan of 'small' draws this text"):
        haystack_of_files(BYTES, [tmp_path], [trace_of(built)])
    assert haystack_of_files(BYTES, [tmp_path]).documents == 3


def test_held_out_text_is_no_text_that_was_trained_on(built: Built) -> None:
    check_unseen([trace_of(built)], {doc_id(d.text): "one" for d in CORPUS if is_held(d)})


def test_a_recipe_that_holds_nothing_out_or_knows_no_such_domain_is_said(built: Built, kitchen: Kitchen) -> None:
    with pytest.raises(MonitorError, match=r"no domain is named poems; known: books, code, wiki"):
        list(held_out(trace_of(built), ["poems"]))
    kitchen.corpus(CORPUS[:30])
    other = kitchen.build(budget=4_000, domains="natural", lengths="natural", holdout=0)
    with pytest.raises(MonitorError, match=r"'small' holds nothing out of books, code, wiki; set `holdout`"):
        list(held_out(trace_of(other)))


def test_files_are_read_by_name_and_hidden_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.md").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / ".hidden").write_text("no")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    (tmp_path / "c.jsonl").write_text('{"body": "three"}\n\n{"body": "four"}\n')
    found = list(texts_in([tmp_path], field="body"))
    assert [text.text for text in found] == ["one", "two", "three", "four"]
    assert found[3].name == f"{tmp_path / 'c.jsonl'}, row 2"
    with pytest.raises(MonitorError, match="gone: no such file or folder"):
        list(texts_in([tmp_path / "gone"]))
    with pytest.raises(MonitorError, match="no files for a haystack"):
        haystack_of_files(BYTES, [])
