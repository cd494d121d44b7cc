"""JSON lines → stored tokens by datatrove and by dolma, in turn with ours, on a slice: they would take hours for more.

Each lives in an environment of its own, which the user makes (`COMMANDS`): their libraries and ours do not go together.
They get the same text as plain JSON lines in four files, the same vocabulary (`bench.vocabularies.for_peers`), their
defaults, and the same number of processes. A peer first runs on a document for each process, and the time of that, its
start, is taken off (`peers/_run.py`): ours starts outside the clock, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import corpora, measure, vocabularies
from bench.corpora import Corpus
from bench.job import write_recipe
from bench.measure import Contestant, Failed, Rounds
from bench.setting import Row, Setting
from bench.vocabularies import SEPARATOR, Vocabulary

#: Peer → what to install.
PEERS = {"datatrove": "'datatrove[io,processing]' tokenizers orjson", "dolma": "dolma"}
_SCRIPTS = Path(__file__).resolve().parent / "peers"


def rows(setting: Setting) -> list[Row]:
    """Measure a slice of the longest and of the shortest documents."""
    options, vocabulary = setting.options, setting.vocabularies[0]
    found = []
    for corpus in setting.ends:
        part = corpora.part(corpus, setting.temp / "slice" / corpus.name, options.slice)
        for workers in setting.counts:
            with setting.doing(f"peers on {part.text_bytes / 1e6:.0f} MB of {corpus.name}, {workers} workers"):
                found.append(bench(part, vocabulary, workers, options.peers, setting.rounds))
    return found


def bench(corpus: Corpus, vocabulary: Vocabulary, workers: int, peers: Path | None, rounds: Rounds) -> Row:
    """Measure one slice with so many workers; return the row.

    Args:
        corpus: the slice, plain JSON lines with ids in one folder.
        vocabulary: ours; peers get it as a tokenizer.json.
        workers: processes of each side.
        peers: folder of the peers' environments.
        rounds: how often.
    """
    place = rounds.temp / "peers"
    theirs = vocabularies.for_peers(vocabulary, place)
    able, missing = [], []
    for name in PEERS:
        python = _python(peers, name)
        if theirs is None:
            missing.append(f"{name}: takes no SentencePiece model")
        elif python is None:
            missing.append(f"{name}: {commands(name, peers)}")
        else:
            told = {"folder": str(corpus.files[0].parent), "out": str(place / name), "tokenizer": str(theirs)}
            told |= {"separator": SEPARATOR, "workers": workers}
            able.append(Contestant(name, str(_SCRIPTS / f"{name}_tokenize.py"), told, str(python)))
    able, failed = _working(able, rounds)
    recipe = write_recipe(place, corpus, vocabulary)
    told = {"recipe": str(recipe), "work": str(place / "work"), "workers": workers}
    ours = Contestant("ours", "bench.tokenize:ours", told)
    reports = measure.alternate([ours, *able], rounds) if able else {}
    return _row(corpus, vocabulary, workers, reports, [*missing, *failed])


def commands(name: str, peers: Path | None) -> str:
    """Return the two commands that make a peer's environment."""
    place = (peers or Path("DIR")) / name
    more = "" if peers else ", and give --peers DIR"
    return f"not there; python3 -m venv {place} && {place}/bin/pip install {PEERS[name]}{more}"


def _python(peers: Path | None, name: str) -> Path | None:
    # Not resolved: a link would lead to the interpreter without its environment.
    python = None if peers is None else peers.absolute() / name / "bin" / "python"
    return python if python is not None and python.exists() else None


def _working(able: Sequence[Contestant], rounds: Rounds) -> tuple[list[Contestant], list[str]]:
    """Tell those that run from those that fail, by the warm-up."""
    working, failed = [], []
    for peer in able:
        try:
            measure.run(peer, rounds.temp)
            working.append(peer)
        except Failed as error:
            failed.append(str(error))
    return working, failed


def _row(
    corpus: Corpus, vocabulary: Vocabulary, workers: int, reports: dict[str, Any], missing: Sequence[str]
) -> dict[str, Any]:
    rates = {name: [corpus.text_bytes / one["seconds"] / 1e6 for one in found] for name, found in reports.items()}
    others = [_other(name, reports[name], rates, workers) for name in reports if name != "ours"]
    others += [{"name": why.split(":")[0], "rate": None, "ratio": None} for why in missing]
    ours = reports.get("ours", [])
    return {
        "bench": "tokenize a slice, peers",
        "corpus": corpus.name,
        "vocabulary": vocabulary.name,
        "megabytes": corpus.text_bytes / 1e6,
        "workers": workers,
        "unit": "MB/s of text",
        "ours": measure.spread(rates["ours"]) if ours else None,
        "ours_mtok": measure.spread([one["tokens"] / one["seconds"] / 1e6 for one in ours]) if ours else None,
        "other": others[0]["name"],
        "floor": others[0]["rate"],
        "ratio": others[0]["ratio"],
        "floor_peak": others[0].get("peak"),
        "more": others[1:],
        "peak": max((one["peak_child"] if workers > 1 else one["peak_self"] for one in ours), default=0),
        "skipped": "" if reports else "not there",
        "says": "; ".join(missing),
    }


def _other(name: str, found: list[dict[str, Any]], rates: dict[str, list[float]], workers: int) -> dict[str, Any]:
    return {
        "name": f"{name} {found[0]['version']}",
        "rate": measure.spread(rates[name]),
        "mtok": measure.spread([one["tokens"] / one["seconds"] / 1e6 for one in found]),
        "ratio": measure.ratios(rates["ours"], rates[name]),
        "start": measure.spread([one["start"] for one in found]),
        "tokens": found[0]["tokens"],
        # datatrove's processes are no children of the one that tells.
        "peak": max(max(one["peak_self"], one["peak_child"]) for one in found) if workers == 1 else None,
    }
