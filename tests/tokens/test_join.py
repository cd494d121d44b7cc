"""Rows that make one document together: what comes out, that nothing is lost, that no layout matters."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixture.corpus import documents
from mixture.errors import InputError, RecipeError
from mixture.index.build import Index
from mixture.tokens import inputs, join
from mixture.tokens.ingest import Store
from mixture.tokens.parts import open_part
from tests.conftest import WORDS, Kitchen

Row = dict[str, Any]


def source(
    more: str = "by: repo, order: path", *, form: str = "jsonl", paths: str = "data/*.jsonl", rest: str = ""
) -> str:
    return f"  - {{name: code, format: {form}, paths: [{paths}], domain: repos, join: {{{more}}}{rest}}}"


def write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def small(repo: Any, path: Any, text: str, **more: Any) -> Row:
    return {"repo": repo, "path": path, "text": text} | more


SMALL = [
    small("x", "b.py", "B"),
    small("y", "z.py", "only"),
    small("x", "a.py", "A"),
    small("x", "c/d.py", "D"),
]


def read(
    kitchen: Kitchen, sources: str, *, more: str = "", work: str = "work", workers: int = 1
) -> tuple[Store, Index]:
    job = kitchen.job(kitchen.recipe(sources=sources, more=more), work=work, workers=workers)
    store = job.tokenize()
    return store, job.bucket(store)


def texts(store: Store) -> list[str]:
    """All documents; a recipe of the kitchen has bytes for tokens."""
    out = []
    for part in store.parts:
        held = open_part(part.files.tokens)
        for start, stop in zip(held.offsets[:-1], held.offsets[1:], strict=True):
            out.append(bytes(held.tokens[start:stop].astype("u1")).decode())
    return sorted(out)


def index_rows(index: Index) -> list[Row]:
    return pq.read_table(index.table).to_pylist()


def repositories(count: int = 60) -> list[Row]:
    """Rows of repositories, shuffled."""
    draw = random.Random(3)
    rows = []
    for repo in range(count):
        for number in range(draw.randint(1, 12)):
            words = " ".join(draw.choices(WORDS, k=draw.randint(5, 120)))
            rows.append(small(f"org/{repo}", f"src/{draw.randint(0, 99)}/{number}.py", words, stars=repo * 10))
    draw.shuffle(rows)
    return rows


BUILD: dict[str, Any] = {"domains": "natural", "lengths": "natural", "budget": 60_000, "shard_tokens": 20_000}


# What comes out


def test_rows_of_one_key_become_one_document_in_the_order_of_a_field(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", SMALL[:2])
    write(kitchen.data / "2.jsonl", SMALL[2:])
    store, _ = read(kitchen, source())
    assert texts(store) == ["A\n\nB\n\nD", "only"]


def test_the_separator_is_what_the_recipe_says(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", SMALL)
    assert texts(read(kitchen, source('by: repo, order: path, separator: "--ü--"'))[0]) == ["A--ü--B--ü--D", "only"]
    assert texts(read(kitchen, source('by: repo, order: path, separator: ""'))[0]) == ["ABD", "only"]


def test_numbers_are_ordered_as_numbers_and_rows_without_one_come_last(kitchen: Kitchen) -> None:
    rows = [small("x", 10, "ten"), small("x", None, "none"), small("x", 9, "nine"), small("x", -1.5, "minus")]
    write(kitchen.data / "1.jsonl", rows)
    assert texts(read(kitchen, source())[0]) == ["minus\n\nnine\n\nten\n\nnone"]


def test_without_an_order_the_ids_of_the_texts_decide_so_files_do_not(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", SMALL)
    first = texts(read(kitchen, source("by: repo"))[0])
    write(kitchen.data / "1.jsonl", SMALL[::-1])
    assert texts(read(kitchen, source("by: repo"))[0]) == first
    assert sorted(first[0].split("\n\n")) == ["A", "B", "D"]


def test_equal_files_of_one_repository_stay(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", [small("x", "a", "same"), small("x", "b", "same"), small("y", "a", "same")])
    assert texts(read(kitchen, source())[0]) == ["same", "same\n\nsame"]


def test_keys_may_be_nested_and_numbers(kitchen: Kitchen) -> None:
    rows = [{"meta": {"id": 7}, "text": "a"}, {"meta": {"id": 8}, "text": "b"}, {"meta": {"id": 7}, "text": "a"}]
    write(kitchen.data / "1.jsonl", rows)
    pq.write_table(pa.table({"meta": [{"id": 7.0}], "text": ["a"]}), kitchen.data / "2.parquet")
    assert texts(read(kitchen, source("by: meta.id"))[0]) == ["a\n\na", "b"]
    both = f"{source('by: meta.id')}\n" + source("by: meta.id", form="parquet", paths="data/*.parquet").replace(
        "code", "more"
    )
    assert texts(read(kitchen, both)[0]) == ["a", "a\n\na", "b"]


def test_folders_of_files_are_joined_by_a_part_of_their_names(kitchen: Kitchen) -> None:
    for name, text in (("one/b.txt", "B"), ("one/a/z.txt", "A"), ("two/a.txt", "C")):
        path = kitchen.data / "repos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    by = "by: {path: 'repos/([^/]+)/'}"
    store, index = read(kitchen, source(by, form="text", paths="data/repos/**/*.txt"))
    assert texts(store) == ["A\n\nB", "C"]
    assert {row["input_file"] for row in index_rows(index)} == {"data/repos/one/a/z.txt", "data/repos/two/a.txt"}


def test_a_document_has_the_place_domain_and_columns_of_its_first_row(kitchen: Kitchen) -> None:
    rows = [r | {"lang": f"lang of {r['text']}", "meta": {"stars": n}} for n, r in enumerate(SMALL)]
    write(kitchen.data / "1.jsonl", rows[:2])
    write(kitchen.data / "2.jsonl", rows[2:])
    sources = source(rest=", carry: [meta.stars, text]").replace("domain: repos", "domain: {field: lang}")
    _, index = read(kitchen, sources)
    found = {row["domain"]: row for row in index_rows(index)}
    assert set(found) == {"lang of A", "lang of only"}
    joined = found["lang of A"]
    assert (joined["input_file"], joined["input_row"]) == ("data/2.jsonl", 0)
    assert (joined["meta.stars"], joined["text"], joined["n_bytes"], joined["source"]) == (2, "A", 7, "code")
    assert (found["lang of only"]["input_file"], found["lang of only"]["input_row"]) == ("data/1.jsonl", 1)


def test_a_domain_may_come_from_the_file_of_the_first_row(kitchen: Kitchen) -> None:
    write(kitchen.data / "books.jsonl", [small("x", "b", "B")])
    write(kitchen.data / "code.jsonl", [small("x", "a", "A"), small("y", "a", "C")])
    sources = source().replace("domain: repos", "domain: {path: '([a-z]+).jsonl'}")
    assert {row["domain"] for row in index_rows(read(kitchen, sources)[1])} == {"code"}


def test_rows_are_counted_in_their_files_over_many_chunks(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "CHUNK_BYTES", 2000)
    monkeypatch.setattr(inputs, "SMALL_FILE", 0)
    rows = [small(f"r{n}", "a", f"text {n} " + "x" * 100) for n in range(100)]
    write(kitchen.data / "1.jsonl", rows)
    write(kitchen.data / "2.jsonl", [small("r0", "b", "later")])
    _, index = read(kitchen, source(rest=", carry: [text]"))
    assert len(list((kitchen.root / "work" / "joined").rglob("joined-*.arrow"))) == 1
    lines = [orjson.loads(line) for line in (kitchen.data / "1.jsonl").read_bytes().splitlines()]
    found = index_rows(index)
    assert sorted(row["input_row"] for row in found) == list(range(100))
    assert all(lines[row["input_row"]]["text"] == row["text"] for row in found)


# Nothing is lost


def test_the_lock_lists_the_input_files_and_counts_documents(kitchen: Kitchen) -> None:
    rows = repositories()
    write(kitchen.data / "1.jsonl", rows[:200])
    write(kitchen.data / "2.jsonl", rows[200:])
    built = kitchen.build(sources=source(), **BUILD)
    assert [(i["source"], i["name"]) for i in built.lock.inputs] == [
        ("code", "data/1.jsonl"),
        ("code", "data/2.jsonl"),
    ]
    assert built.lock.inputs[0]["bytes"] == (kitchen.data / "1.jsonl").stat().st_size
    assert built.lock.documents["read"] == 60
    assert built.job.tokenize().joined_rows == len(rows)
    assert built.lock.recipe["content"]["sources"][0]["join"]["by"] == {"field": "repo"}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_rows_without_a_key_are_bad_rows(kitchen: Kitchen, form: str) -> None:
    rows = [*SMALL, small(None, "n", "lost"), small("", "n", "lost too"), small("x", "e", "")]
    write(kitchen.data / "1.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), kitchen.data / "1.parquet")
    sources = source(form=form, paths=f"data/1.{form}")
    with pytest.raises(InputError, match=r"row 4\)?: 'repo', by which documents are joined, is not there, null or"):
        read(kitchen, sources)
    store, _ = read(kitchen, sources, more="on_bad_row: skip")
    assert texts(store) == ["A\n\nB\n\nD", "only"]
    assert store.rejected == {"no join key": 2, "empty text": 1}
    assert store.joined_rows + sum(store.rejected.values()) == len(rows)
    with pytest.raises(InputError, match="3 bad rows, 2 allowed; one of them: data/1"):
        read(kitchen, sources, more="on_bad_row: skip\nmax_bad_rows: 2", work="fresh")
    with pytest.raises(InputError, match=r"3 bad rows, 0 allowed; one of them: data/1\.\w+, row 4: no join key"):
        read(kitchen, sources)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_misspelt_key_is_named_with_the_nearest_field(kitchen: Kitchen, form: str) -> None:
    write(kitchen.data / "1.jsonl", SMALL)
    pq.write_table(pa.Table.from_pylist(SMALL), kitchen.data / "1.parquet")
    with pytest.raises(InputError, match=r"'rep'.*did you mean 'repo'"):
        read(kitchen, source("by: rep", form=form, paths=f"data/1.{form}"))


def test_an_order_that_no_row_has_is_refused(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", SMALL)
    with pytest.raises(InputError, match="no row has a value in 'pth', by which join orders"):
        read(kitchen, source("by: repo, order: pth"))


def test_numbers_in_one_file_and_text_in_another_are_refused(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "SMALL_FILE", 0)
    write(kitchen.data / "1.jsonl", [small("x", 1, "a")])
    write(kitchen.data / "2.jsonl", [small("x", "1", "b")])
    with pytest.raises(InputError, match="join order 'path' is a number in some rows and text in others"):
        read(kitchen, source())


def test_a_file_name_without_a_key_is_refused(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", SMALL)
    with pytest.raises(InputError, match=r"join path 'repos/\(\.\)' does not match the file name 'data/1.jsonl'"):
        read(kitchen, source("by: {path: 'repos/(.)'}"))


def test_a_joined_document_over_the_size_limit_is_a_bad_row(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", SMALL)
    with pytest.raises(InputError, match="the 3 rows of repo 'x' make a document of 7 bytes, over the size limit of 6"):
        read(kitchen, source(), more="max_document_bytes: 6")
    store, _ = read(kitchen, source(), more="max_document_bytes: 6\non_bad_row: skip")
    assert texts(store) == ["only"]
    assert store.rejected == {"over the size limit": 1}
    assert store.joined_rows == 4
    assert texts(read(kitchen, source(), more="max_document_bytes: 7")[0]) == ["A\n\nB\n\nD", "only"]


def test_a_source_of_which_nothing_is_left_is_refused(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", [small(None, "a", "a")])
    with pytest.raises(InputError, match=r"'code' holds no document: 1 rows in data/1.jsonl, the first bad one"):
        read(kitchen, source(), more="on_bad_row: skip")


@pytest.mark.parametrize(
    ("rule", "form", "said"),
    [
        ("order: path", "jsonl", "by"),
        ("by: {path: 'x'}", "jsonl", "put parentheses around the key"),
        ("by: {path: '(x)', field: y}", "jsonl", "give exactly one of"),
        ("by: repo", "text", "a text file has no fields to join by"),
        ("by: {path: '(x)'}, order: name", "text", "a text file has no fields to join by"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(kitchen: Kitchen, rule: str, form: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        kitchen.job(kitchen.recipe(sources=source(rule, form=form)))


# The same bytes


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        kitchen = Kitchen(tmp_path_factory.mktemp("joined"), stack)
        write(kitchen.data / "a.jsonl", repositories())
        return kitchen.build(sources=source(), **BUILD).hashes


def _renamed_and_split(root: Path) -> str:
    rows = repositories()[::-1]
    for number in range(5):
        write(root / f"part {9 - number}.jsonl", rows[number::5])
    return source()


def _compressed(root: Path) -> str:
    write(root / "plain", repositories())
    (root / "a.jsonl.gz").write_bytes(gzip.compress((root / "plain").read_bytes()))
    return source(paths="data/a.jsonl.gz")


def _parquet(root: Path) -> str:
    root.mkdir(parents=True)
    table = pa.Table.from_pylist(repositories())
    pq.write_table(table.slice(0, 100), root / "b.parquet", row_group_size=7)
    pq.write_table(table.slice(100), root / "a.parquet")
    return source(form="parquet", paths="data/*.parquet")


def _huggingface(root: Path) -> str:
    import datasets

    root.mkdir(parents=True)
    datasets.Dataset(pa.Table.from_pylist(repositories())).save_to_disk(root / "saved")
    return source(form="huggingface", paths="data/saved")


def _stream(root: Path) -> str:
    root.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(repositories()), root / "train.parquet")
    return source(form="huggingface", paths="data", rest=", streaming: true")


def _joined_before(root: Path) -> str:
    held: dict[str, list[Row]] = {}
    for row in repositories():
        held.setdefault(row["repo"], []).append(row)
    docs = ["\n\n".join(r["text"] for r in sorted(rows, key=lambda r: r["path"])) for rows in held.values()]
    write(root / "a.jsonl", [{"text": text} for text in docs])
    return "  - {name: code, format: jsonl, paths: [data/*.jsonl], domain: repos}"


@pytest.mark.parametrize(
    "layout",
    [_renamed_and_split, _compressed, _parquet, _huggingface, _stream, _joined_before],
    ids=lambda f: f.__name__.strip("_"),
)
def test_inputs_renamed_split_reordered_or_joined_by_hand_give_the_same_shards(
    kitchen: Kitchen, reference: list[str], layout: Callable[[Path], str]
) -> None:
    assert kitchen.build(sources=layout(kitchen.data), **BUILD).hashes == reference


@pytest.mark.parametrize(("workers", "bucket"), [(1, 5_000), (2, 20_000)])
def test_workers_chunks_and_buckets_do_not_matter(
    kitchen: Kitchen, reference: list[str], monkeypatch: pytest.MonkeyPatch, workers: int, bucket: int
) -> None:
    monkeypatch.setattr(join, "BUCKET_BYTES", bucket)
    monkeypatch.setattr(inputs, "SMALL_FILE", 0)
    if workers == 1:  # Worker processes have sizes of their own.
        monkeypatch.setattr(documents, "CHUNK_BYTES", 10_000)
    rows = repositories()
    write(kitchen.data / "1.jsonl", rows[:150])
    write(kitchen.data / "2.jsonl", rows[150:])
    built = kitchen.build(sources=source(), workers=workers, **BUILD)
    assert len(list((kitchen.root / "work" / "joined").rglob("joined-*.arrow"))) > 3
    assert built.hashes == reference


def test_first_rows_of_equal_order_and_text_are_told_apart_by_what_they_carry(kitchens: Callable[..., Kitchen]) -> None:
    found = []
    rows = [small("x", "a", "same", set="wiki"), small("x", "a", "same", set="books"), small("x", "b", "end", set="z")]
    for name, order in (("one", rows), ("two", rows[::-1])):
        kitchen = kitchens(name)
        write(kitchen.data / "1.jsonl", order)
        sources = source().replace("domain: repos", "domain: {field: set}")
        found.append([row["domain"] for row in index_rows(read(kitchen, sources)[1])])
    assert found == [["books"], ["books"]]


# Done once


def stamps(kitchen: Kitchen) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in (kitchen.root / "work").rglob("*.*") if p.is_file()}


def test_running_again_does_nothing_and_a_changed_file_is_joined_anew(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", repositories())
    first = kitchen.build(sources=source(), **BUILD)
    before = stamps(kitchen)
    assert not list((kitchen.root / "work" / "joined").rglob("staged*"))
    again = kitchen.build(sources=source(), **BUILD)
    assert again.made == {"tokenize": (), "pack": ()}
    assert stamps(kitchen) == before
    write(kitchen.data / "1.jsonl", [*repositories(), small("org/0", "zzz", "one more file")])
    changed = kitchen.build(sources=source(), **BUILD)
    assert changed.made["tokenize"] == ("code, joined-00000",)
    assert changed.hashes != first.hashes
    assert changed.lock.documents["read"] == first.lock.documents["read"]


def test_a_lost_file_is_joined_again_to_the_same_bytes(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "BUCKET_BYTES", 20_000)
    write(kitchen.data / "1.jsonl", repositories())
    first = kitchen.build(sources=source(), **BUILD)
    lost, kept = sorted((kitchen.root / "work" / "joined").rglob("joined-*.arrow"))[:2]
    before, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    again = kitchen.build(sources=source(), **BUILD)
    assert (lost.read_bytes(), kept.stat().st_mtime_ns) == (before, stamp)
    assert (again.made["tokenize"], again.hashes) == ((), first.hashes)


def test_a_run_that_stopped_between_two_tasks_goes_on(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixture.tokens import join_bucket, join_rows

    monkeypatch.setattr(join, "BUCKET_BYTES", 20_000)
    monkeypatch.setattr(inputs, "SMALL_FILE", 0)
    rows = repositories()
    for number in range(4):
        write(kitchen.data / f"{number}.jsonl", rows[number::4])
    calls = {"deal_rows": 0, "join_bucket": 0}
    stop_at = {"deal_rows": 3, "join_bucket": 2}

    def counted(module: Any, name: str) -> Callable[..., Any]:
        real = getattr(module, name)

        def task(**given: Any) -> Any:
            calls[name] += 1
            if calls[name] == stop_at[name]:
                raise KeyboardInterrupt
            return real(**given)

        return task

    for module, name in ((join_rows, "deal_rows"), (join_bucket, "join_bucket")):
        monkeypatch.setattr(module, name, counted(module, name))
    for _ in stop_at:
        with pytest.raises(KeyboardInterrupt):
            read(kitchen, source())
    store, _ = read(kitchen, source())
    buckets = len(list((kitchen.root / "work" / "joined").rglob("joined-*.arrow")))
    # Of four files two were dealt before the stop, and two are after it. Buckets that are whole are only looked at.
    assert calls == {"deal_rows": 5, "join_bucket": 2 + buckets}
    assert buckets > 3
    assert texts(store) == texts(read(kitchen, source(), work="fresh")[0])


def test_another_carried_column_or_separator_is_joined_anew(kitchen: Kitchen) -> None:
    write(kitchen.data / "1.jsonl", SMALL)
    folder = kitchen.root / "work" / "joined"
    read(kitchen, source())
    read(kitchen, source(rest=", carry: [path]"))
    read(kitchen, source('by: repo, order: path, separator: "x"'))
    assert len(list(folder.iterdir())) == 3
