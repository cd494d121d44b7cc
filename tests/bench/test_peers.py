"""Peers live in environments that the user makes; without them the row says how to make them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import corpora, tokenize_peers, vocabularies
from bench.measure import Contestant, Failed, Rounds, run


@pytest.fixture
def row(tmp_path: Path) -> dict[str, object]:
    corpus = corpora.write("code", tmp_path / "slice", iter(["def one(): return 1\n"] * 20), ids=True)
    vocabulary = vocabularies.made(corpus, tmp_path, 300)
    return tokenize_peers.bench(corpus, vocabulary, 1, tmp_path / "peers", Rounds(1, 0, tmp_path))


def test_what_is_not_there_is_told_with_the_commands_that_make_it(row: dict[str, object], tmp_path: Path) -> None:
    said = str(row["says"])
    for name in ("datatrove", "dolma"):
        assert f"{name}: not there; python3 -m venv {tmp_path}/peers/{name} && " in said
    assert "bin/pip install dolma" in said
    assert row["ours"] is None


def test_a_program_of_another_environment_gets_json_and_gives_json(tmp_path: Path) -> None:
    script = tmp_path / "peer.py"
    script.write_text("import json, sys\nprint(json.dumps(json.loads(sys.argv[1]) | {'seconds': 2.0}))\n")
    report = run(Contestant("peer", str(script), {"workers": 3}, sys.executable), tmp_path)
    assert (report["workers"], report["seconds"]) == (3, 2.0)
    script.write_text("raise SystemExit('it does not go')\n")
    with pytest.raises(Failed, match="peer: it does not go"):
        run(Contestant("peer", str(script), {}, sys.executable), tmp_path)


def test_a_peer_s_start_is_taken_off_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(tokenize_peers.__file__).parent / "peers"))
    import _run  # type: ignore[import-not-found]

    told = {"folder": str(tmp_path), "out": str(tmp_path), "tokenizer": "t", "separator": "s", "workers": 2}
    monkeypatch.setattr(sys, "argv", ["peer", json.dumps(told)])
    clock = iter([0.0, 9.0, 10.0, 13.0, 20.0, 28.0])
    monkeypatch.setattr(_run.time, "perf_counter", lambda: next(clock))
    seen: list[int] = []

    def tokenize(folder: str, out: str, tokenizer: str, separator: str, workers: int) -> int:
        seen.append(len(list(Path(folder).glob("*.jsonl"))))
        sys.stdout.write("chatter")
        return 7

    _run.main("numpy", tokenize)
    report = json.loads(capsys.readouterr().out)
    assert (report["start"], report["seconds"], report["tokens"]) == (3.0, 5.0, 7)
    assert seen == [2, 2, 0]
