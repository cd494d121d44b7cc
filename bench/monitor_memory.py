"""What watching the heads adds to a forward pass's memory: `python -m bench.monitor_memory`.

A small model with random weights reads a prompt and its answer, in fresh processes in turn:

    plain    transformers' own forward pass (sdpa), logits of the answer's rows only, no cache of keys and values
    watched  mixture.monitor.rows.read_rows, which in the same pass reads where each head looks
    twice    the same by a model that was watched before, as the second probe of a grid is

The peak is the process's largest resident size; `above` is that without what was resident before the pass,
interpreter, libraries and weights, so it is what the pass itself takes. One layer's matrix would add its own size.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from bench.measure import Contestant, Rounds, alternate
from mixture.recipe.quantities import length as places
from mixture.recipe.quantities import show_length

MODELS: dict[str, dict[str, Any]] = {
    "llama, 8 heads over 2 of keys": {"model_type": "llama"},
    "mistral, window of 4K": {"model_type": "mistral", "sliding_window": 4096},
}
_SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 32_000,
}
_HEADS = 8
_WAYS = ("plain", "watched", "twice")
_REACH = 1.3


def one(way: str, fields: dict[str, Any], length: int, answer: int) -> dict[str, Any]:
    """Contestant: open a model, run it once (`twice`: two times), and report what that took."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from mixture.monitor.rows import read_rows

    torch.manual_seed(0)
    given = _SHAPE | {"max_position_embeddings": length + answer} | fields
    config = CONFIG_MAPPING[given.pop("model_type")](**given)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    model = model.eval().requires_grad_(requires_grad=False)
    tokens = np.random.default_rng(0).integers(0, _SHAPE["vocab_size"], length + answer)
    _plain(model, tokens[:64], 8)
    before, start = _resident(), time.perf_counter()
    if way == "plain":
        _plain(model, tokens, answer)
    for _ in range(_WAYS.index(way)):
        read_rows(model, tokens[:length], tokens[length:])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak": peak, "above": peak - before}


def _plain(model: Any, tokens: np.ndarray[Any, Any], answer: int) -> None:
    import torch

    with torch.no_grad():
        model(input_ids=torch.from_numpy(tokens[:-1])[None], use_cache=False, logits_to_keep=answer)


def _resident() -> int:
    """Return the bytes that are resident now; ru_maxrss is the most there ever were."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def bench(length: int, answer: int, rounds: Rounds) -> Iterator[dict[str, Any]]:
    """Measure every model in every way; yield a row for each, with ratios to its plain pass."""
    for model, fields in MODELS.items():
        arguments = {"fields": fields, "length": length, "answer": answer}
        ways = [Contestant(way, "bench.monitor_memory:one", {"way": way} | arguments) for way in _WAYS]
        reports = alternate(ways, rounds)
        middle = {
            way: {part: statistics.median(report[part] for report in reports[way]) for part in reports[way][0]}
            for way in _WAYS
        }
        for way, figures in middle.items():
            ratios = {f"{part}_ratio": figures[part] / middle["plain"][part] for part in ("peak", "above", "seconds")}
            yield {"model": model, "way": way} | figures | ratios


def show(rows: Iterable[dict[str, Any]], length: int, answer: int) -> None:
    """Print what is measured, as it comes."""
    worst = 0.0
    matrix = _HEADS * length**2 * 4 / 2**30
    print(f"{show_length(length)} tokens, an answer of {answer}; one layer's matrix would be {matrix:,.0f} GiB")
    print(f"{'model':32}{'way':9}{'peak MiB':>10}{'ratio':>8}{'above MiB':>11}{'ratio':>8}{'seconds':>9}{'ratio':>8}")
    for row in rows:
        print(
            f"{row['model']:32}{row['way']:9}{row['peak'] / 2**20:10,.0f}{row['peak_ratio']:8.2f}"
            f"{row['above'] / 2**20:11,.0f}{row['above_ratio']:8.2f}{row['seconds']:9.1f}{row['seconds_ratio']:8.2f}",
            flush=True,
        )
        worst = max(worst, row["peak_ratio"])
    print(f"peak, at worst {worst:.2f} times a plain pass's; the bound is {_REACH}: {_word(worst)}")


def _word(worst: float) -> str:
    return "held" if worst <= _REACH else "BROKEN"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--length", type=places, default=places("32K"), help="tokens of the prompt")
    parser.add_argument("--answer", type=int, default=32, help="tokens of the answer")
    parser.add_argument("--rounds", type=int, default=1, help="of which the median counts")
    given = parser.parse_args()
    facts = machine.facts()
    print(f"{facts['processor']}, {facts['cores']} cores; torch {machine.version('torch')}; {facts['date']}")
    with tempfile.TemporaryDirectory() as temp:
        show(bench(given.length, given.answer, Rounds(given.rounds, 0, Path(temp))), given.length, given.answer)


if __name__ == "__main__":
    main()
