"""The score stage: every document once, whoever computes it, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from mixture.corpus import documents
from mixture.engine import Silence, Task
from mixture.engine.local import Local
from mixture.errors import InputError, RecipeError
from mixture.recipe.file import parse
from mixture.scores.compute import Scores, choose, score
from mixture.scores.definitions import gzip_ratio, type_token_ratio
from mixture.scores.summary import spreads
from mixture.tokens.inputs import find
from mixture.workspace import Workspace
from tests.scores import stub_kenlm

RECIPE = """
name: small
tokenizer: {{kind: bytes}}
sources:
  - {{name: lines, format: jsonl, paths: ['*.jsonl'], text: text, domain: {{field: set}}}}
budget: 1M
sequence: {{length: 1K}}
scores: {scores}
{more}
"""
TEXTS = [f"document {n} " + "word " * (n % 7) + "ünï " * (n % 3) for n in range(50)]


class Counting(Local):
    """Runs tasks here and remembers them."""

    def __init__(self) -> None:
        super().__init__(1)
        self.ran: list[Task] = []

    def run(self, tasks: Any, stage: str) -> Iterator[tuple[Task, Any]]:  # noqa: ARG002
        for task in tasks:
            if "score" in task.function:
                self.ran.append(task)
            yield task, task.run()


class Listening(Silence):
    """Remembers which stages began, of how much, and how much of it was done."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, int]] = []

    def start(self, stage: str, why: str, unit: str, total: int, done: int) -> None:
        assert why
        assert unit == "B"
        self.heard.append((stage, total, done))


class Desk:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.engine = Counting()
        self.progress = Listening()

    def corpus(self, texts: list[Any], name: str = "a.jsonl") -> None:
        lines = (orjson.dumps({"text": text, "set": "x"}) + b"\n" for text in texts)
        (self.root / name).write_bytes(b"".join(lines))

    def score(self, scores: str = "[gzip_ratio, type_token_ratio]", more: str = "", engine: Any = None) -> Scores:
        recipe = parse(RECIPE.format(scores=scores, more=more))
        place = Workspace(self.root / "work", self.root)
        self.engine.ran.clear()
        runner = engine or self.engine
        return score(recipe, find(recipe, place, runner), place, runner, self.progress)

    def files(self) -> dict[str, bytes]:
        made = sorted((self.root / "work" / "scores").rglob("part-*.parquet"))
        return {str(path.relative_to(self.root)): path.read_bytes() for path in made}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.corpus(TEXTS)
    return made


def values(scores: Scores, name: str) -> dict[bytes, float | None]:
    table = next(t for t in scores.tables if t.name == name)
    read = pa.concat_tables([pq.read_table(part) for part in table.parts])
    assert read.schema.field(name).type == pa.float64()
    return dict(zip(read["doc_id"].to_pylist(), read[name].to_pylist(), strict=True))


def test_every_document_gets_every_score(desk: Desk) -> None:
    scores = desk.score()
    for name, of in (("gzip_ratio", gzip_ratio), ("type_token_ratio", type_token_ratio)):
        assert values(scores, name) == {
            xxhash.xxh3_128_digest(text.encode()): of(memoryview(text.encode())) for text in TEXTS
        }
    assert scores.documents == 50
    assert [t.ours for t in scores.tables] == [True, True]


def test_a_part_is_sorted_by_id_and_holds_equal_texts_once(desk: Desk) -> None:
    desk.corpus([*TEXTS, *TEXTS[:10], TEXTS[0]])
    scores = desk.score("[gzip_ratio]")
    (part,) = scores.tables[0].parts
    ids = pq.read_table(part)["doc_id"].to_pylist()
    assert ids == sorted(set(ids))
    assert len(ids) == 50
    assert scores.documents == 61


def test_what_is_whole_is_found(desk: Desk) -> None:
    first = desk.score()
    assert len(first.made) == 1
    before = desk.files()
    again = desk.score()
    assert again.made == ()
    assert desk.engine.ran == []
    assert desk.files() == before
    assert (again.tables, again.record, again.documents) == (first.tables, first.record, first.documents)
    stage, total, done = desk.progress.heard[-1]
    assert (stage, done) == ("score", total)


def test_a_new_column_computes_itself_alone(desk: Desk) -> None:
    desk.score("[gzip_ratio]")
    before = desk.files()
    desk.score("[gzip_ratio, type_token_ratio]")
    (task,) = desk.engine.ran
    assert [column["name"] for column in task.arguments["columns"]] == ["type_token_ratio"]
    assert before.items() <= desk.files().items()


def test_a_new_file_is_scored_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixture.tokens.inputs.SMALL_FILE", 1)
    desk.score("[gzip_ratio]")
    desk.corpus(["another"], "b.jsonl")
    scores = desk.score("[gzip_ratio]")
    assert [task.label for task in desk.engine.ran] == ["b.jsonl"]
    assert len(values(scores, "gzip_ratio")) == 51


def test_a_lost_part_is_made_again(desk: Desk) -> None:
    scores = desk.score("[gzip_ratio]")
    before = desk.files()
    scores.tables[0].parts[0].unlink()
    assert desk.score("[gzip_ratio]").made
    assert desk.files() == before


def test_where_chunks_end_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for number, chunk in enumerate([64 << 20, 500]):
        monkeypatch.setattr(documents, "CHUNK_BYTES", chunk)
        monkeypatch.setattr("mixture.tokens.inputs.SMALL_FILE", 1)
        root = tmp_path / str(number)
        root.mkdir()
        desk = Desk(root)
        desk.corpus(TEXTS)
        scores = desk.score()
        found.append((len(scores.tables[0].parts), values(scores, "gzip_ratio")))
    assert found[0][0] == 1
    assert found[1][0] > 3
    assert found[0][1] == found[1][1]


def test_workers_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixture.tokens.inputs.SMALL_FILE", 1)
    made = []
    for workers in (1, 2):
        root = tmp_path / str(workers)
        root.mkdir()
        desk = Desk(root)
        for number in range(3):
            desk.corpus(TEXTS[number::3], f"{number}.jsonl")
        with Local(workers) as engine:
            desk.score(engine=engine)
        made.append(desk.files())
    assert made[0] == made[1]


def test_a_text_without_words_scores_null(desk: Desk) -> None:
    desk.corpus(["words here", " \n "])
    found = values(desk.score("[type_token_ratio]"), "type_token_ratio")
    assert found[xxhash.xxh3_128_digest(b" \n ")] is None
    assert found[xxhash.xxh3_128_digest(b"words here")] == 1.0


def test_bad_rows_stop_or_are_counted(desk: Desk) -> None:
    desk.corpus([*TEXTS, None, ""])
    with pytest.raises(InputError, match=r"a\.jsonl.*null"):
        desk.score()
    scores = desk.score(more="on_bad_row: skip")
    assert scores.documents == 50
    assert scores.rejected == {"empty text": 1, "null text": 1}
    with pytest.raises(InputError, match=r"2 bad rows, 0 allowed; one of them: a\.jsonl"):
        desk.score()
    with pytest.raises(InputError, match="2 bad rows, 1 allowed"):
        desk.score(more="on_bad_row: skip\nmax_bad_rows: 1")


def test_a_perplexity_is_kept_by_its_models_content(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_kenlm.install(monkeypatch)
    (desk.root / "m.bin").write_text("model one")
    first = desk.score("[{perplexity: m.bin}]")
    assert all(value > 1 for value in values(first, "perplexity").values() if value is not None)
    (desk.root / "m.bin").rename(desk.root / "moved.bin")
    moved = desk.score("[{perplexity: moved.bin}]")
    assert moved.made == ()
    assert moved.record == first.record
    (desk.root / "moved.bin").write_text("model two")
    changed = desk.score("[{perplexity: moved.bin}]")
    assert changed.made
    assert changed.record["perplexity"]["model"] != first.record["perplexity"]["model"]
    stub_kenlm.remove(monkeypatch)
    assert desk.score("[{perplexity: moved.bin}]").made == ()


def test_a_perplexity_without_the_module_or_the_model_stops_before_any_work(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_kenlm.remove(monkeypatch)
    with pytest.raises(InputError, match=r"m\.bin"):
        desk.score("[{perplexity: m.bin}]")
    (desk.root / "m.bin").write_text("model")
    with pytest.raises(InputError, match="pip install kenlm"):
        desk.score("[{perplexity: m.bin}]")
    assert desk.engine.ran == []


def test_tables_of_other_tools_are_found_and_their_content_recorded(desk: Desk) -> None:
    for name in ("p", "q"):
        pq.write_table(pa.table({"doc_id": [bytes(16)], name: [1.0]}), desk.root / f"{name}.parquet")
    scores = desk.score("[{table: p.parquet, name: first}, gzip_ratio, {table: '[q].parquet', name: second}]")
    assert [(t.name, t.ours) for t in scores.tables] == [("first", False), ("gzip_ratio", True), ("second", False)]
    assert scores.tables[0].parts == (desk.root / "p.parquet",)
    assert scores.record["first"].keys() == {"kind", "name", "content"}
    alone = desk.score("[{table: p.parquet, name: first}]")
    assert alone.documents == 0
    assert alone.record["first"] == scores.record["first"]
    assert orjson.loads(orjson.dumps(scores.record)) == scores.record
    with pytest.raises(InputError, match=r"none\.parquet"):
        desk.score("[{table: none.parquet, name: x}]")


def test_columns_are_chosen_by_name_or_by_measure() -> None:
    recipe = parse(RECIPE.format(scores="[{perplexity: m.bin, name: ppl}]", more=""))
    assert choose(recipe, []) == recipe
    assert [s.name for s in choose(recipe, ["gzip_ratio", "ppl", "gzip_ratio"]).scores] == ["gzip_ratio", "ppl"]
    with pytest.raises(RecipeError, match=r"--columns gzip_ration: no such score; did you mean 'gzip_ratio'\?"):
        choose(recipe, ["gzip_ration"])
    with pytest.raises(RecipeError, match=r"names no scores; write `scores: \[gzip_ratio, type_token_ratio\]`"):
        choose(parse(RECIPE.format(scores="[]", more="")), [])


def test_a_spread_tells_quantiles_of_every_column_of_numbers(desk: Desk) -> None:
    table = {"doc_id": [bytes([n]) * 16 for n in range(101)], "q": range(101), "label": ["x"] * 101, "n": [None] * 101}
    schema = pa.schema([("doc_id", pa.binary(16)), ("q", pa.int64()), ("label", pa.string()), ("n", pa.float64())])
    pq.write_table(pa.table({k: list(v) for k, v in table.items()}, schema=schema), desk.root / "q.parquet")
    scores = desk.score("[type_token_ratio, {table: q.parquet, name: t}]")
    own, q, empty = spreads(scores.tables)
    assert (own.table, own.column, own.documents, own.without) == ("type_token_ratio", "type_token_ratio", 50, 0)
    assert q.row() == {
        "table": "t", "column": "q", "documents": 101, "without": 0, "least": 0.0, "most": 100.0,
        "p10": 10.0, "p20": 20.0, "p25": 25.0, "p50": 50.0, "p75": 75.0, "p80": 80.0, "p90": 90.0,
    }  # fmt: skip
    assert (empty.documents, empty.without, empty.least, empty.quantiles) == (0, 101, None, ())
