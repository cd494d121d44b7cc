"""The contamination gate: planted texts are found, kept out, and told of in the lock."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from mixture.engine import Silence, Task
from mixture.engine.local import Local
from mixture.errors import InputError, RecipeError, StoreError
from mixture.flow import Job
from mixture.recipe import Recipe
from mixture.recipe.file import parse
from mixture.scores.compute import Scores
from tests.cli.conftest import Shop, shop
from tests.conftest import Built, Document, Kitchen, documents

SECRET = "The secret of the twelve blue lanterns was known to the keeper of the northern lighthouse alone. "
QUESTION = "Who counted the lanterns?"
EASY: dict[str, Any] = {"budget": 20_000, "domains": "natural", "lengths": "natural", "shard_tokens": 8_192}
SCORES = "scores: [{contamination: [eval/*], ngram: 40, text: input}]"
CLEAN = documents(90)

__all__ = ["shop"]


def planted(text: str, n: int = 0, domain: str = "books") -> Document:
    body = documents(n + 1, seed=5)[n].text
    return Document(body + " " + text + " " + body[::-1], domain)


#: 40-grams of bytes: the secret whole, its first 50 bytes, its last 40 bytes alone, and 39 bytes, which is one too few.
PLANTED = [planted(SECRET), planted(SECRET[:50], 1, "wiki"), Document(SECRET[-40:], "code"), planted(SECRET[:39], 2)]
COUNTS = [len(SECRET) - 39, 11, 1, 0]


class Heard(Silence):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def evaluation(kitchen: Kitchen, *texts: Any, name: str = "a.jsonl", field: str = "input") -> Path:
    path = kitchen.root / "eval" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps({field: text}) + b"\n" for text in texts))
    return path


@pytest.fixture
def gated(kitchen: Kitchen) -> Kitchen:
    kitchen.corpus(CLEAN + PLANTED)
    evaluation(kitchen, SECRET, QUESTION)
    return kitchen


def job_of(kitchen: Kitchen, more: str = SCORES, *, workers: int = 1, work: str = "work", **changes: Any) -> Job:
    return kitchen.job(kitchen.recipe(more=more, **(EASY | changes)), workers=workers, work=work)


def identity(document: Document) -> bytes:
    return xxhash.xxh3_128_digest(document.text.encode())


def column(scores: Scores, name: str = "contamination") -> dict[bytes, int]:
    table = pa.concat_tables([pq.read_table(part) for t in scores.tables if t.name == name for part in t.parts])
    assert table.schema.field(name).type == pa.int64()
    return dict(zip(table["doc_id"].to_pylist(), table[name].to_pylist(), strict=True))


def made(kitchen: Kitchen, work: str = "work") -> dict[str, bytes]:
    folder = kitchen.root / work / "scores"
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def build(kitchen: Kitchen, more: str, **changes: Any) -> Built:
    return kitchen.build(more=more, **(EASY | changes))


def test_every_document_gets_the_number_of_ngrams_that_it_shares(gated: Kitchen) -> None:
    found = column(job_of(gated).score())
    assert [found[identity(document)] for document in PLANTED] == COUNTS
    assert {found[identity(document)] for document in CLEAN} == {0}
    assert len(found) == len(CLEAN) + len(PLANTED)


def test_a_short_text_is_looked_for_as_a_whole(gated: Kitchen) -> None:
    asked = planted(QUESTION, 3)
    gated.corpus([asked, planted(QUESTION[1:], 4)], "b.jsonl")
    found = column(job_of(gated).score())
    assert found[identity(asked)] == 1
    assert sum(found.values()) == sum(COUNTS) + 1


def test_equal_texts_count_once_also_in_different_files(gated: Kitchen) -> None:
    gated.corpus([PLANTED[0], PLANTED[0], *CLEAN[:3]], "b.jsonl")
    (domain,) = [d for d in job_of(gated).decontaminate()[0].domains if d.domain == "books"]
    assert domain.flagged_documents == 1
    scores = job_of(gated).score()
    assert column(scores)[identity(PLANTED[0])] == COUNTS[0]
    for part in scores.tables[0].parts:
        ids = pq.read_table(part)["doc_id"].to_pylist()
        assert ids == sorted(set(ids))


def test_a_recipe_that_asks_for_it_never_draws_a_flagged_document(gated: Kitchen) -> None:
    flagged = {identity(document) for document, count in zip(PLANTED, COUNTS, strict=True) if count}
    tempting = "weight: case when contamination > 0 then 1e6 else 1 end"
    drawn = {span["doc_id"] for span in build(gated, f"{SCORES}\n{tempting}", work="open").spans()}
    assert drawn & flagged
    kept = build(gated, f"{SCORES}\nwhere: contamination = 0\n{tempting}", work="shut", max_epochs=9)
    drawn = {span["doc_id"] for span in kept.spans()}
    assert drawn
    assert not drawn & flagged
    assert SECRET[:40].encode() not in kept.stream().astype("u1").tobytes()
    assert kept.lock.documents["filtered"] == 3


def test_the_count_may_be_held_against_the_length(gated: Kitchen) -> None:
    lengths = [len(document.text.encode()) for document in PLANTED]
    over = [count for count, length in zip(COUNTS, lengths, strict=True) if count >= 0.02 * length]
    assert over == [1]
    lock = build(gated, f"{SCORES}\nwhere: contamination < 0.02 * n_tokens").lock
    assert lock.documents["filtered"] == 1


def test_the_lock_says_what_was_looked_for_and_what_came_of_it(gated: Kitchen) -> None:
    lock = build(gated, f"{SCORES}\nwhere: contamination = 0").lock
    record = lock.documents["scores"]["contamination"]
    path = gated.root / "eval" / "a.jsonl"
    assert record["files"] == [
        {
            "name": "eval/a.jsonl",
            "bytes": path.stat().st_size,
            "hash": xxhash.xxh3_128_hexdigest(path.read_bytes()),
            "texts": 2,
            "tokens": len(SECRET) + len(QUESTION),
            "ngrams": len(SECRET) - 39,
            "whole": 1,
            "too_short": 0,
        }
    ]
    assert (record["kind"], record["ngram"], record["text"], record["least"]) == ("contamination", 40, "input", 10)
    assert record["tokenizer"] == lock.tokenizer["fingerprint"]
    assert record["flagged"] == {
        domain: {"documents": 1, "tokens": len(document.text.encode())}
        for domain, document in (("books", PLANTED[0]), ("code", PLANTED[2]), ("wiki", PLANTED[1]))
    }


def test_a_changed_evaluation_file_is_searched_anew_and_changes_the_lock(gated: Kitchen) -> None:
    more = f"{SCORES}\nwhere: contamination = 0"
    before = build(gated, more).lock
    evaluation(gated, CLEAN[0].text)
    after = build(gated, more).lock
    assert after.fingerprint != before.fingerprint
    record = after.documents["scores"]["contamination"]
    assert record["files"][0]["hash"] != before.documents["scores"]["contamination"]["files"][0]["hash"]
    assert record["flagged"] == {"books": {"documents": 1, "tokens": len(CLEAN[0].text.encode())}}


def test_a_renamed_evaluation_file_is_not_searched_anew_but_named_in_the_lock(gated: Kitchen) -> None:
    more = f"{SCORES}\nwhere: contamination = 0"
    before, files = build(gated, more), made(gated)
    (gated.root / "eval" / "a.jsonl").rename(gated.root / "eval" / "z.jsonl")
    after = build(gated, more)
    assert made(gated) == files
    assert after.hashes == before.hashes
    assert after.lock.documents["scores"]["contamination"]["files"][0]["name"] == "eval/z.jsonl"


def test_a_gate_that_nothing_asks_for_is_in_the_lock_and_told_of(gated: Kitchen) -> None:
    heard = Heard()
    job = job_of(gated)
    job = Job(job.path, job.recipe, job.workspace, job.lock_path, job.engine, heard)
    store = job.tokenize()
    made = job.plan(store, job.bucket(store))
    assert sum(f["documents"] for f in made.lock.documents["scores"]["contamination"]["flagged"].values()) == 3
    (told,) = [line for line in heard.said if line.startswith("plan: contamination")]
    assert "3 documents" in told
    assert "write `where: contamination = 0` into the recipe" in told


def test_workers_write_the_same_bytes(gated: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixture.tokens.inputs.SMALL_FILE", 1)
    gated.corpus([*CLEAN[:9], *PLANTED[:2]], "b.jsonl")
    gated.corpus(CLEAN[30:39], "c.jsonl")
    for workers in (1, 2):
        job_of(gated, workers=workers, work=f"work{workers}").score()
    one, two = (made(gated, f"work{n}") for n in (1, 2))
    assert one == two
    assert len([name for name in one if name.endswith(".hits.parquet")]) == 2


class Dying(Local):
    """Is stopped after so many tasks of the gate."""

    def __init__(self, after: int) -> None:
        super().__init__(1)
        self.after = after
        self.ran: list[Task] = []

    def run(self, tasks: Any, stage: str) -> Iterator[tuple[Task, Any]]:  # noqa: ARG002
        for task in tasks:
            if "contamination" in task.function:
                if len(self.ran) == self.after:
                    raise KeyboardInterrupt
                self.ran.append(task)
            yield task, task.run()


def test_a_killed_search_goes_on_where_it_was_and_ends_in_the_same_bytes(
    gated: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixture.tokens.inputs.SMALL_FILE", 1)
    gated.corpus(CLEAN[:9], "b.jsonl")
    gated.corpus([*CLEAN[30:39], PLANTED[0]], "c.jsonl")
    job_of(gated, work="whole").score()
    job = job_of(gated)
    for after, left in ((1, None), (9, 2), (9, 0)):
        engine = Dying(after)
        again = Job(job.path, job.recipe, job.workspace, job.lock_path, engine, Silence())
        if left is None:
            with pytest.raises(KeyboardInterrupt):
                again.score()
        else:
            again.score()
            assert len(engine.ran) == left
    assert made(gated) == made(gated, "whole")


@pytest.mark.parametrize("ending", ["part-00000.parquet", "hits.parquet", "part-00000.json"])
def test_a_part_of_which_a_file_is_lost_is_searched_again(gated: Kitchen, ending: str) -> None:
    first = job_of(gated).score()
    before = made(gated)
    (lost,) = (gated.root / "work" / "scores").rglob(f"*{ending}")
    lost.unlink()
    again = job_of(gated).score()
    assert first.made == again.made
    assert made(gated) == before
    assert job_of(gated).score().made == ()


def test_damage_to_what_is_looked_for_is_seen(gated: Kitchen) -> None:
    job_of(gated).score()
    (path,) = (gated.root / "work" / "scores").rglob("evaluation.arrow")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"evaluation\.arrow: missing or damaged"):
        job_of(gated).score()


def test_text_parquet_and_compressed_files_are_read_too(gated: Kitchen) -> None:
    wanted = column(job_of(gated).score())
    (gated.root / "eval" / "a.jsonl").unlink()
    (gated.root / "eval" / "q.txt").write_text(QUESTION)
    pq.write_table(pa.table({"input": [SECRET]}), gated.root / "eval" / "b.parquet")
    assert column(job_of(gated).score()) == wanted
    (gated.root / "eval" / "b.parquet").unlink()
    (gated.root / "eval" / "b.json.gz").write_bytes(gzip.compress(orjson.dumps({"input": SECRET})))
    assert column(job_of(gated).score()) == wanted


def test_it_stands_beside_other_scores(gated: Kitchen) -> None:
    more = "scores: [gzip_ratio, {contamination: eval/a.jsonl, ngram: 40, text: input, name: leak}]"
    scores = job_of(gated, more).score()
    assert [table.name for table in scores.tables] == ["gzip_ratio", "leak"]
    assert list(scores.record) == ["gzip_ratio", "leak"]
    assert column(scores, "leak")[identity(PLANTED[0])] == COUNTS[0]
    assert scores.documents == len(CLEAN) + len(PLANTED)
    lock = build(gated, f"{more}\nwhere: leak = 0 and gzip_ratio > 0").lock
    assert list(lock.documents["scores"]) == ["gzip_ratio", "leak"]
    assert lock.documents["filtered"] == 3


def test_files_are_named_and_texts_that_are_too_short_are_told_of(gated: Kitchen) -> None:
    evaluation(gated, "short", PLANTED[2].text, name="b.jsonl")
    heard = Heard()
    job = job_of(gated)
    (found,) = Job(job.path, job.recipe, job.workspace, job.lock_path, job.engine, heard).decontaminate()
    assert [(f.name, f.documents, f.ngrams) for f in found.files] == [("eval/a.jsonl", 3, sum(COUNTS))]
    assert [f["ngrams"] for f in found.record["files"]] == [len(SECRET) - 39, 0]
    assert found.record["files"][1]["too_short"] == 1
    assert any("1 of 2 texts of eval/b.jsonl have fewer than 10 tokens" in line for line in heard.said)


def test_the_worst_documents_come_first_with_their_place_and_what_they_share(gated: Kitchen) -> None:
    (found,) = job_of(gated).decontaminate()
    assert found.flagged == 3
    assert [worst.doc_id for worst in found.worst] == [identity(document).hex() for document in PLANTED[:3]]
    first = found.worst[0]
    assert (first.domain, first.input_file, first.input_row) == ("books", "data/a.jsonl", len(CLEAN))
    assert (first.ngrams, first.longest, first.evaluation_file) == (COUNTS[0], len(SECRET), "eval/a.jsonl")
    assert first.excerpt == SECRET[:40]
    assert found.worst[2].excerpt == SECRET[-40:]


def test_nothing_found_is_no_error(kitchen: Kitchen) -> None:
    kitchen.corpus(CLEAN)
    evaluation(kitchen, SECRET)
    (found,) = job_of(kitchen).decontaminate()
    assert (found.flagged, found.files, found.worst) == (0, (), ())
    assert sum(d.documents for d in found.domains) == len(CLEAN)
    assert build(kitchen, f"{SCORES}\nwhere: contamination = 0").lock.documents["filtered"] == 0


@pytest.mark.parametrize(
    ("texts", "name", "words"),
    [
        ([], "a.jsonl", ["eval/a.jsonl: this evaluation file is empty", "name others"]),
        (["tiny", "small"], "a.jsonl", ["none of 2 texts is long enough", "the longest has 5 tokens, 10 are needed"]),
        ([SECRET, None], "a.jsonl", ["eval/a.jsonl, row 1: null text", "name the field", "on_bad_row: skip"]),
    ],
)
def test_an_evaluation_file_that_cannot_be_used_stops_with_one_sentence(
    kitchen: Kitchen, texts: list[Any], name: str, words: list[str]
) -> None:
    kitchen.corpus(CLEAN[:9])
    evaluation(kitchen, *texts, name=name)
    with pytest.raises(InputError) as caught:
        job_of(kitchen).score()
    for word in words:
        assert word in str(caught.value)


def test_a_missing_field_or_file_stops_with_one_sentence(gated: Kitchen) -> None:
    with pytest.raises(InputError, match=r"eval/a\.jsonl, row 0: missing text .*\(it is 'text' now\)"):
        job_of(gated, "scores: [{contamination: [eval/*]}]").score()
    with pytest.raises(InputError, match=r"no file matches 'none/\*\.jsonl'"):
        job_of(gated, "scores: [{contamination: ['none/*.jsonl']}]").score()
    skip = "scores: [{contamination: [eval/*]}]\non_bad_row: skip"
    with pytest.raises(InputError, match="holds no text in the field 'text', and 2 bad rows"):
        job_of(gated, skip).score()


def test_bad_rows_that_may_be_skipped_are_counted_in_the_record(gated: Kitchen) -> None:
    evaluation(gated, SECRET, None, 7)
    scores = job_of(gated, f"{SCORES}\non_bad_row: skip").score()
    assert scores.record["contamination"]["files"][0]["rejected"] == 2
    assert column(scores)[identity(PLANTED[0])] == COUNTS[0]


def recipe(score: str) -> Recipe:
    text = (
        "name: small\ntokenizer: {kind: bytes}\nsources: [{name: all, format: jsonl, paths: [a.jsonl], domain: x}]\n"
        f"budget: 1M\nsequence: {{length: 1K}}\nscores: [{score}]\n"
    )
    return parse(text)


@pytest.mark.parametrize(
    ("score", "why"),
    [
        ("{contamination: [/eval/a.jsonl]}", "path '/eval/a.jsonl' is absolute; write it relative to the data root"),
        ("{contamination: [e.jsonl], ngram: 3}", "scores.0.ngram: input should be greater than or equal to 4, not 3"),
        ("{contamination: [e.jsonl], ngram: 10001}", "less than or equal to 10000, not 10001"),
        ("{contamination: []}", "contamination names no evaluation file"),
        ("{contamination: e.jsonl, measure: gzip_ratio}", "exactly one of"),
        ("{measure: gzip_ratio, ngram: 8}", "ngram and text say how contamination is looked for"),
        ("{contaminaton: [e.jsonl]}", "did you mean 'contamination'?"),
    ],
)
def test_a_gate_that_cannot_be_is_refused_at_its_line(score: str, why: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(score)
    assert "recipe, line 6: " in str(caught.value)
    assert why in str(caught.value)


def test_n_and_the_field_enter_the_fingerprint_and_paths_do_not() -> None:
    plain, elsewhere = recipe("{contamination: e.jsonl}"), recipe("{contamination: [x/*.jsonl], ngram: 32, text: text}")
    assert plain.fingerprint == elsewhere.fingerprint
    assert plain.what()["scores"] == [{"kind": "contamination", "name": "contamination", "ngram": 32, "text": "text"}]
    others = ("{contamination: e.jsonl, ngram: 16}", "{contamination: e.jsonl, text: t}")
    assert len({recipe(score).fingerprint for score in others} | {plain.fingerprint}) == 3


@pytest.fixture
def counter(shop: Shop) -> Shop:
    shop.corpus(CLEAN + PLANTED)
    evaluation(shop, SECRET, QUESTION)
    return shop


def decontaminate(shop: Shop, *options: str, more: str = SCORES) -> Any:
    shop.recipe(more=more, **EASY)
    return shop.call("decontaminate", "small.yaml", "--workers", "1", *options)


def test_the_command_shows_domains_files_and_documents_and_ends_with_the_line_to_write(counter: Shop) -> None:
    said = decontaminate(counter)
    assert said.code == 0, said.err
    for word in ("books", "eval/a.jsonl", identity(PLANTED[0]).hex(), "data/a.jsonl, row 90", SECRET[:40]):
        assert word in said.out
    assert said.out.splitlines()[-2:] == ["next: write into small.yaml", "  where: contamination = 0"]


def test_a_recipe_that_keeps_them_out_is_told_so(counter: Shop) -> None:
    said = decontaminate(counter, more=f"{SCORES}\nwhere: n_tokens > 5 and contamination = 0")
    assert said.out.splitlines()[-1] == "small.yaml keeps them out already"


def test_the_command_takes_other_files_and_answers_machines(counter: Shop) -> None:
    options = ("--against", "eval/a.jsonl", "--ngram", "45", "--text", "input", "--json")
    said = decontaminate(counter, *options, more="where: n_tokens > 5 and domain != '#x'")
    assert said.code == 0, said.err
    (gate,) = said.json["gates"]
    assert {d["domain"]: d["flagged_documents"] for d in gate["domains"]} == {"books": 1, "code": 0, "wiki": 1}
    assert [worst["ngrams"] for worst in gate["worst"]] == [len(SECRET) - 44, 6]
    lines = said.json["write"]
    assert lines == [
        'scores: [{contamination: ["eval/a.jsonl"], ngram: 45, text: "input", name: contamination}]',
        "where: \"(n_tokens > 5 and domain != '#x') and contamination = 0\"",
    ]
    written = decontaminate(counter, "--json", more="\n".join(lines))
    assert written.json["gates"] == said.json["gates"]
    assert written.json["write"] == []
    assert json.loads(said.out) == said.json


def test_the_command_refuses_what_it_cannot_do(counter: Shop) -> None:
    counter.refused(decontaminate(counter, more=""), "names no evaluation files", "--against 'eval/*.jsonl'")
    absolute = str(counter.root / "eval" / "a.jsonl")
    counter.refused(decontaminate(counter, "--against", absolute), "is absolute", "--data")
    counter.refused(decontaminate(counter, "--against", "none.jsonl"), "none.jsonl", "no such file")
    counter.refused(decontaminate(counter, "--against", "eval"), "eval: a folder, where files are wanted", "'eval/*'")
    assert decontaminate(counter, "--ngram", "3").code == 2


def test_nothing_is_searched_twice(counter: Shop) -> None:
    decontaminate(counter)
    before = made(counter)
    again = decontaminate(counter)
    assert "contamination: nothing to do, all is whole" in again.err
    assert made(counter) == before
