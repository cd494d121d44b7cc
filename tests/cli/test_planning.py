"""What-if, re-mix, pilots, other tokenizers, comparison: as a user calls them, and as a user gets them wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixture import lockfile
from mixture.ledger import Ledger
from mixture.pack.shuffle import Shuffle
from tests.cli.conftest import DOCS, EASY, Shop
from tests.conftest import documents, recipe_text


def _tree(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def _named(shop: Shop, name: str, **changes: object) -> str:
    text = recipe_text(**(EASY | changes)).replace("name: small", f"name: {name}")
    shop.file(f"{name}.yaml", text)
    return f"{name}.yaml"


def test_a_dry_run_shows_every_cell_and_writes_nothing(shop: Shop) -> None:
    shop.stock()
    assert shop.call("bucket", "small.yaml").code == 0
    before = _tree(shop.root)
    said = shop.call("plan", "small.yaml", "--dry-run")
    assert said.code == 0, said.err
    for word in ("supply", "wanted", "granted", "epochs", "slack", "books", "512-1K", "≥4K"):
        assert word in said.out
    assert _tree(shop.root) == before
    phases = json.loads(shop.call("plan", "small.yaml", "--dry-run", "--json").out)["phases"]
    planned = json.loads(shop.call("plan", "small.yaml", "--json").out)["phases"]
    for cell, real in zip(phases[0]["cells"], planned[0]["cells"], strict=True):
        assert cell == {name: real[name] for name in cell}


def test_a_dry_run_of_what_cannot_be_shows_the_cells_that_are_short_and_refuses(shop: Shop) -> None:
    shop.stock(budget=3_000_000)
    said = shop.call("plan", "small.yaml", "--dry-run")
    assert said.code == 1
    assert "short" in said.out
    assert "error: " in said.err
    assert "redistribute, the nearest mixture" in said.err or "no budget" in said.err or "budget: " in said.err
    assert not list(shop.root.glob("*.lock.json"))


@pytest.mark.parametrize("how", ["repeat", "redistribute"])
def test_what_gives_way_when_a_cell_is_short_is_shown(shop: Shop, how: str) -> None:
    mix = {"domains": "{books: 0.5, wiki: 0.2, code: 0.3}", "lengths": "{threshold: 1K, long: 0.9}", "max_epochs": 1}
    shop.stock(budget=60_000, **mix)
    refusal = shop.refused(shop.run(), "wiki", "on_shortage: redistribute")
    assert "on_shortage: repeat" in refusal
    text = recipe_text(**(EASY | mix | {"budget": 60_000})).replace(
        "max_epochs: 1", f"max_epochs: 1\n  on_shortage: {how}"
    )
    shop.file("small.yaml", text)
    said = shop.call("run", "small.yaml", "-j", "1")
    assert said.code == 0, said.err
    assert ("over the cap" in said.out) == (how == "repeat")
    assert ("redistributed" in said.out) == (how == "redistribute")
    cells = json.loads(shop.call("report", "small.yaml", "--json").out)["phases"][0]["cells"]
    domains = {
        c["domain"]: [sum(x[k] for x in cells if x["domain"] == c["domain"]) for k in ("wanted", "granted")]
        for c in cells
    }
    assert all(wanted == granted for wanted, granted in domains.values()), "domain shares hold"
    assert any(c["wanted"] != c["granted"] for c in cells) == (how == "redistribute")
    assert any("raised" in c for c in cells) == (how == "repeat")
    assert shop.call("verify", "small.yaml").code == 0


def test_a_remix_tells_what_was_consumed_and_what_changed(shop: Shop) -> None:
    shop.stock(max_epochs=3)
    assert shop.run().code == 0
    new = _named(shop, "new", max_epochs=3, domains="{books: 0.2, wiki: 0.3, code: 0.5}")
    said = shop.call("plan", new, "--consumed", "small.lock.json@20")
    assert said.code == 0, said.err
    assert "20 sequences of small" in said.out
    assert "small.lock.json → new.lock.json" in said.out
    used = [c["used"] for c in json.loads((shop.root / "new.lock.json").read_text())["made"]["phases"][0]["cells"]]
    assert sum(used) > 20 * 512 * 0.9
    packed = shop.call("pack", new, "--json")
    assert packed.code == 0, packed.err
    assert json.loads(packed.out)["given"]["consumed"][0]["sequences"] == 20
    # Planned anew without the option, nothing was consumed.
    assert shop.call("plan", new).code == 0
    assert json.loads((shop.root / "new.lock.json").read_text())["made"]["given"] == {}


def test_a_remix_takes_the_ledger_of_a_training_run(shop: Shop) -> None:
    shop.stock(max_epochs=3)
    assert shop.run().code == 0
    lock = lockfile.read(shop.root / "small.lock.json")
    assert lock is not None
    new = _named(shop, "new", max_epochs=3, domains="{books: 0.2, wiki: 0.3, code: 0.5}")
    for name, shuffle in (("plain", Shuffle()), ("mixed", Shuffle(window=39, seed=5))):
        (shop.root / name).mkdir()
        Ledger.of(lock, "small.lock.json", [20], [shuffle]).write(shop.root / name / "ledger.json")
    said = shop.call("plan", new, "--consumed", "plain/ledger.json")
    assert said.code == 0, said.err
    assert "20 sequences of small" in said.out
    assert "small.lock.json → new.lock.json" in said.out
    by_ledger = (shop.root / "new.lock.json").read_bytes()
    (shop.root / "new.lock.json").unlink()
    assert shop.call("plan", new, "--consumed", "small.lock.json@20").code == 0
    assert (shop.root / "new.lock.json").read_bytes() == by_ledger
    said = shop.call("plan", new, "--consumed", "mixed/ledger.json")
    assert said.code == 0, said.err
    assert "20 sequences of small, shuffled" in said.out
    assert (shop.root / "new.lock.json").read_bytes() != by_ledger
    # The lock that a ledger is of is never written over.
    shop.refused(shop.call("plan", "small.yaml", "--consumed", "mixed/ledger.json"), "the lock which this plan writes")
    shop.refused(shop.call("plan", new, "--consumed", "gone/ledger.json"), "no such ledger")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--consumed", "gone.lock.json@3"], ("gone.lock.json: no such lock",)),
        (["--consumed", "small.lock.json"], ("write OLD.lock.json@SEQUENCE",)),
        (["--consumed", "small.lock.json@-3"], ("write OLD.lock.json@SEQUENCE",)),
        (["--consumed", "old.lock.json@9999999"], ("9,999,999 sequences, but that stream has 39",)),
        (["--consumed", "old.lock.json@late:3"], ("no phase 'late'",)),
        (["--consumed", "small.lock.json@3"], ("the lock which this plan writes",)),
        (["--consumed", "small.yaml@3"], ("write OLD.lock.json@SEQUENCE",)),
        (["--like", "gone.lock.json"], ("gone.lock.json: no such lock",)),
        (["--like", "old.lock.json", "--scale", "1/2"], ("goes neither with --consumed nor with --scale",)),
        (["--scale", "2"], ("--scale 2: give a fraction between 0 and 1",)),
        (["--scale", "1/0"], ("--scale 1/0: give a fraction",)),
        (["--scale", "half"], ("--scale half: give a fraction",)),
        (["--scale", "1/1000"], ("do not fill a sequence of 512",)),
        (["--match-repetition"], ("--match-repetition goes with --scale",)),
    ],
)
def test_options_that_do_not_fit_are_refused(stall: Shop, options: list[str], words: tuple[str, ...]) -> None:
    if not (stall.root / "old.lock.json").exists():
        assert stall.run().code == 0
        (stall.root / "old.lock.json").write_bytes((stall.root / "small.lock.json").read_bytes())
    before = (stall.root / "small.lock.json").read_bytes()
    stall.refused(stall.call("plan", "small.yaml", *options), *words)
    assert (stall.root / "small.lock.json").read_bytes() == before


def test_a_dry_run_of_a_followed_plan_is_wrong_usage(shop: Shop) -> None:
    shop.stock()
    assert shop.call("plan", "small.yaml").code == 0
    assert shop.call("plan", "small.yaml", "--like", "small.lock.json", "--dry-run").code == 2


def test_a_pilot_has_a_lock_of_its_own(shop: Shop) -> None:
    shop.corpus(documents(900))
    shop.recipe(**(EASY | {"budget": 400_000, "max_epochs": 2}))
    assert shop.call("plan", "small.yaml").code == 0
    full = (shop.root / "small.lock.json").read_bytes()
    said = shop.call("plan", "small.yaml", "--scale", "1/4", "--match-repetition")
    assert said.code == 0, said.err
    assert "next: mixture pack small.yaml --lock small.scale-1-4-matched.lock.json" in said.out
    assert (shop.root / "small.lock.json").read_bytes() == full
    packed = shop.call("pack", "small.yaml", "--lock", "small.scale-1-4-matched.lock.json", "--json")
    assert packed.code == 0, packed.err
    assert json.loads(packed.out)["given"] == {"scale": "1/4", "match_repetition": True}
    assert shop.call("verify", "small.yaml", "--lock", "small.scale-1-4-matched.lock.json").code == 0


def test_diff_of_recipes_and_locks_shows_rules_shares_and_documents(shop: Shop) -> None:
    shop.stock()
    assert shop.call("plan", "small.yaml").code == 0
    new = _named(shop, "new", domains="{books: 0.2, wiki: 0.3, code: 0.5}")
    before = {name for name in _tree(shop.root) if "/" not in name}
    said = shop.call("diff", "small.lock.json", new)
    assert said.code == 0, said.err
    for word in ("mix.domains: natural → ", "small.lock.json → new.yaml", "kept", "gained", "lost", "epochs"):
        assert word in said.out
    assert {name for name in _tree(shop.root) if "/" not in name} == before, "no lock is written"
    found = json.loads(shop.call("diff", "small.yaml", new, "--json").out)
    assert {row["domain"] for row in found["documents"]} == {"books", "wiki", "code"}
    assert sum(row["b"]["share"] for row in found["cells"]) == pytest.approx(1)
    same = json.loads(shop.call("diff", "small.yaml", "small.lock.json", "--json").out)
    assert same["rules"] == []
    assert all(row["gained"] == row["lost"] == 0 for row in same["documents"])


def test_diff_without_the_plans_still_compares_the_locks(shop: Shop) -> None:
    shop.stock()
    assert shop.call("plan", "small.yaml").code == 0
    said = shop.call("diff", "small.lock.json", "small.lock.json", "--work", "elsewhere")
    assert said.code == 0, said.err
    assert "documents gained and lost are not known" in said.out
    shop.refused(shop.call("diff", "small.lock.json", "gone.lock.json"), "gone.lock.json: no such lock")
    shop.refused(shop.call("diff", "small.lock.json", "gone.yaml"), "gone.yaml: no such recipe")
    shop.file("odd.json", "[1, 2]")
    shop.refused(shop.call("diff", "small.lock.json", "odd.json"), "odd.json: not a lock file")


def test_the_report_answers_questions_of_long_context(shop: Shop) -> None:
    shop.stock()
    assert shop.run().code == 0
    said = shop.call("report", "small.yaml")
    for word in ("≥1K %", "≥128K %", "plan, uncut", "shards, after cuts", "heaviest documents", "unique", "repeated"):
        assert word in said.out
    assert len(DOCS) == 60


def test_sql_over_the_index_filters_and_weighs(shop: Shop) -> None:
    docs = documents(300)
    shop.corpus(docs)
    more = "where: n_bytes > 400\nweight: case when domain = 'wiki' then 1.0 / n_tokens else 1 end"
    shop.recipe(**(EASY | {"more": more, "budget": 60_000}))
    said = shop.run()
    assert said.code == 0, said.err
    assert said.json["documents"]["filtered"] == sum(len(d.text.encode()) <= 400 for d in docs)
    shop.recipe(**(EASY | {"more": "where: read_text('/etc/hostname') is not null"}))
    shop.refused(shop.run(), "where: ")
    shop.recipe(**(EASY | {"more": "weight: n_tokes"}))
    shop.refused(shop.run(), "weight: ", "n_tokens")


def test_scores_that_the_recipe_names_are_computed_for_its_sql(shop: Shop) -> None:
    shop.corpus(documents(200))
    more = (
        "scores: [gzip_ratio]\nwhere: percent_rank() over (partition by domain order by gzip_ratio) between .2 and .8"
    )
    shop.recipe(**(EASY | {"more": more}))
    said = shop.run()
    assert said.code == 0, said.err
    assert 60 <= said.json["documents"]["filtered"] <= 100
    assert "gzip_ratio" in said.json["documents"]["scores"]
    again = shop.run()
    assert "weights by SQL" not in again.err
    assert shop.call("score", "small.yaml").code == 0
