"""Greedy decoding with a cache gives what a pass over the whole text gives, token by token."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from mixture.errors import MonitorError  # noqa: E402
from mixture.monitor.decode import greedy  # noqa: E402
from tests.monitor.conftest import tiny  # noqa: E402
from tests.monitor.copyist import NEEDLE, copyist, grid  # noqa: E402

PROMPTS = np.random.default_rng(3).integers(0, 258, (3, 40))


def slowly(model: Any, prompts: np.ndarray[Any, Any], most: int) -> np.ndarray[Any, Any]:
    """Decode with a pass over everything for each token, without a cache."""
    ids = torch.as_tensor(prompts)
    for _ in range(most):
        ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids[:, prompts.shape[1] :].numpy()


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_the_cache_changes_nothing(family: str) -> None:
    model = tiny(family).model
    assert np.array_equal(greedy(model, PROMPTS, most=7), slowly(model, PROMPTS, 7))


def test_a_window_that_slides_over_the_prompt_changes_nothing_either() -> None:
    model = tiny("mistral", sliding_window=16).model
    assert np.array_equal(greedy(model, PROMPTS, most=7), slowly(model, PROMPTS, 7))


def test_prompts_of_a_batch_do_not_see_each_other() -> None:
    model = tiny().model
    alone = np.concatenate([greedy(model, prompt[None], most=5) for prompt in PROMPTS])
    assert np.array_equal(greedy(model, PROMPTS, most=5), alone)


def test_logits_are_made_of_the_last_place_alone() -> None:
    model = tiny().model
    seen: list[tuple[int, ...]] = []
    hook = model.lm_head.register_forward_hook(lambda _module, _inputs, out: seen.append(tuple(out.shape)))
    greedy(model, PROMPTS, most=3)
    hook.remove()
    assert seen == [(3, 1, 258)] * 3


class Script:
    """Says the same lines to any prompts."""

    def __init__(self, *lines: tuple[int, ...]) -> None:
        self._columns = iter(zip(*lines, strict=True))

    def __call__(self, **_asked: Any) -> Any:
        return SimpleNamespace(logits=torch.eye(10)[list(next(self._columns))][:, None])


def test_decoding_ends_when_every_prompt_met_a_stop_and_not_before() -> None:
    def said(*stop: int) -> list[list[int]]:
        script = Script((1, 9, 2, 3, 4), (5, 6, 7, 9, 8))
        return greedy(script, PROMPTS[:2], most=5, stop=stop).tolist()

    assert said() == [[1, 9, 2, 3, 4], [5, 6, 7, 9, 8]]
    assert said(9) == [[1, 9, 2, 3], [5, 6, 7, 9]]
    assert said(1, 5) == [[1], [5]]
    assert said(1) == said()


def test_a_head_that_copies_says_the_needle() -> None:
    """Constructed weights, without training: with its mouth shut the same model says nothing of it."""
    asked = grid(lengths=(64,))
    prompts = np.stack([probe.prompt for probe in asked])
    answers = np.stack([probe.answer for probe in asked])
    assert np.array_equal(greedy(copyist(), prompts, most=NEEDLE), answers)
    assert not np.isin(greedy(copyist(speaks=False), prompts, most=NEEDLE), answers).any()


def test_nothing_is_decoded_where_nothing_is_asked_for() -> None:
    assert greedy(tiny().model, PROMPTS, most=0).shape == (3, 0)


def test_a_token_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(MonitorError, match=r"token 300 and the model has 258"):
        greedy(tiny().model, np.array([[1, 300]]), most=1)
