"""The config file: what it takes, what it refuses in one sentence, and what of it decides what is learnt."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import ConfigError
from mixture.pack.shuffle import Shuffle
from mixture.train.amount import NOTHING, Amount, amount
from mixture.train.config import TrainConfig, changes, check_phases, load, parse

TEXT = """
name: tiny
lock: mixes/tiny.lock.json
model: {config: {model_type: llama, hidden_size: 64, rms_norm_eps: 1e-5}}
batch: {tokens: 4M, micro: 2}
stop: 100 steps
optimizer: {lr: 2e-5, betas: [0.9, 0.98]}
schedule: {kind: wsd, warmup: 100M, decay: 10%}
phases:
  long: {rope: {kind: base, base: 128M}, optimizer: {lr: 1e-5}}
"""


def _with(old: str, new: str) -> TrainConfig:
    assert old in TEXT
    return parse(TEXT.replace(old, new), "tiny.yaml")


def test_quantities_are_read_as_people_write_them() -> None:
    config = parse(TEXT)
    assert config.batch.tokens == 4 * 1024 * 1024
    assert config.batch.of(131_072) == 32
    assert _with("tokens: 4M", "tokens: 100_000").batch.of(32_768) == 3
    assert _with("tokens: 4M", "sequences: 7").batch.of(32_768) == 7
    assert config.optimizer.lr == 2e-5
    assert config.model.config == {"model_type": "llama", "hidden_size": 64, "rms_norm_eps": 1e-5}
    assert config.stop == Amount("steps", 100)
    assert config.schedule.warmup == Amount("tokens", 100_000_000)
    assert config.schedule.decay == Amount("share", 0.1)
    assert config.of("long").rope.base == 128_000_000
    assert _with("lr: 2e-5", "lr: 2e-5, clip: none").optimizer.clip is None
    assert config.folder == "runs/tiny"
    assert _with("name: tiny", "name: tiny\nout: /scratch/x").folder == "/scratch/x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", NOTHING),
        (0, NOTHING),
        ("1B", Amount("tokens", 10**9)),
        ("1.5M tokens", Amount("tokens", 1_500_000)),
        ("512 tokens", Amount("tokens", 512)),
        ("1 step", Amount("steps", 1)),
        ("2,000 steps", Amount("steps", 2000)),
        (0.01, Amount("share", 0.01)),
        ("1e-3", Amount("share", 0.001)),
        ("12.5%", Amount("share", 0.125)),
        (1.0, Amount("share", 1.0)),
    ],
)
def test_a_length_of_a_run_is_tokens_or_steps_or_a_share(text: object, expected: Amount) -> None:
    assert amount(text) == expected
    assert amount(str(expected)) == expected


@given(
    st.one_of(
        st.builds(Amount, st.just("tokens"), st.integers(1, 10**15)),
        st.builds(Amount, st.just("steps"), st.integers(1, 10**9)),
        st.builds(Amount, st.just("share"), st.floats(1e-9, 1)),
    )
)
def test_a_length_is_read_as_it_is_written(length: Amount) -> None:
    assert amount(str(length)) == length


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lr: 2e-5", "lrr: 2e-5", "line 7: 'lrr' is not a key of optimizer; did you mean 'lr'?"),
        ("stop:", "stpo:", "line 6: 'stpo' is not a key of a config; did you mean 'stop'?"),
        ("lr: 2e-5, ", "", "optimizer.lr is missing: the highest learning rate"),
        ("lr: 2e-5", "lr: -1", "line 7: optimizer.lr: input should be greater than 0, not -1"),
        ("100 steps", "100", "line 6: stop: 100 may be tokens or steps; write 100 steps, or 100 tokens"),
        ("100 steps", "0", "stop: 0 trains on nothing"),
        ("100 steps", "often", "'often' is not a length of a run; write it as 100M"),
        ("100 steps", "150%", "150% is more than all of it"),
        ("tokens: 4M", "tokens: 4M, sequences: 3", "line 5: batch: give exactly one of: tokens, sequences"),
        ("tokens: 4M, ", "", "line 5: batch: give one of: tokens, sequences"),
        ("config: {", "path: /m, config: {", "line 4: model: give exactly one of: path, config"),
        ("model_type: llama, ", "", "line 4: model.config: model_type is missing"),
        ("kind: wsd", "kind: cosine", "schedule.decay: kind: cosine takes none; leave it out, or write kind: wsd"),
        ("kind: wsd", "kind: linear", "'constant', 'cosine' or 'wsd', not 'linear'"),
        ("base: 128M", "base: 128M, factor: 2", "line 10: phases.long.rope.factor: kind: base takes none"),
        (", base: 128M", "", "line 10: phases.long.rope: needs base with kind: base: base of the freq"),
        ("rope: {kind: base, base: 128M}", "lock: x", "'lock' is not a key of phases.long"),
        ("rope: {kind: base, base: 128M}", "batch: {tokens: 1M, sequences: 2}", "phases.long.batch: give exactly one"),
        ("rope: {kind: base, base: 128M}", "schedule: {floor: 2}", "phases.long.schedule.floor: input should be less"),
        ("stop: 100 steps", "order: {shuffle: some}", "order.shuffle: 'some' is no number of sequences"),
        ("stop: 100 steps", "events: {positions: [4K, 1K]}", "events.positions: edges must rise, got 4K, 1K"),
        ("stop: 100 steps", "events: {wandb: maybe}", "events.wandb: input should be 'auto', True or False"),
        ("stop: 100 steps", "checkpoints: {every: 0.5}", "checkpoints.every: write 100 steps, or 1B for tokens"),
        ("stop: 100 steps", "precision: fp8", "precision: input should be 'bf16' or 'float32', not 'fp8'"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_line(old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _with(old, new)
    said = str(caught.value)
    assert words in said
    assert said.startswith("tiny.yaml")
    assert "\n" not in said


def test_a_file_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(TEXT)
    assert load(tmp_path / "train.yaml").name == "tiny"
    with pytest.raises(ConfigError, match=r"no such config; did you mean .*train\.yaml\?"):
        load(tmp_path / "trian.yaml")


def test_a_phase_says_what_differs_and_the_rest_is_the_config_s() -> None:
    config = parse(TEXT)
    long = config.of("long")
    assert (long.optimizer.lr, long.optimizer.betas) == (1e-5, (0.9, 0.98))
    assert (long.rope.kind, config.rope.kind) == ("base", "model")
    assert long.schedule == config.schedule
    assert not long.phases
    assert config.of("short") == config.model_copy(update={"phases": {}})
    # Of a batch, the one way of saying it takes the other's place; the rest of it stays.
    fewer = _with("rope: {kind: base, base: 128M}", "batch: {sequences: 8}").of("long").batch
    assert (fewer.tokens, fewer.sequences, fewer.micro) == (None, 8, 2)
    # A schedule is changed key by key, but for another kind, which takes none of the old one's keys.
    same = _with("rope: {kind: base, base: 128M}", "schedule: {warmup: 5 steps}").of("long").schedule
    assert (same.kind, str(same.warmup), str(same.decay)) == ("wsd", "5 steps", "0.1")
    other = _with("rope: {kind: base, base: 128M}", "schedule: {kind: cosine}").of("long").schedule
    assert (other.kind, other.warmup, other.decay) == ("cosine", NOTHING, None)
    unclipped = _with("optimizer: {lr: 1e-5}", "optimizer: {clip: none}")
    assert (unclipped.optimizer.clip, unclipped.of("long").optimizer.clip) == (1.0, None)


def test_a_phase_that_the_lock_does_not_have_is_refused_with_the_nearest() -> None:
    config = parse(TEXT)
    check_phases(config, ["short", "long"], "x.lock.json")
    with pytest.raises(ConfigError, match=r"x\.lock\.json has no phase 'long'; did you mean 'longer'\?"):
        check_phases(config, ["short", "longer"], "x.lock.json")
    with pytest.raises(ConfigError, match="its recipe has no phases: leave the key out"):
        check_phases(config, [""], "x.lock.json")


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("lr: 2e-5", "lr: 3e-5", ["optimizer.lr: 2e-05 → 3e-05"]),
        ("lr: 1e-5", "lr: 3e-5", ["phases.long.optimizer.lr: 1e-05 → 3e-05"]),
        (
            "lr: 1e-5",
            "clip: none",
            ["phases.long.optimizer.clip: None → none", "phases.long.optimizer.lr: 1e-05 → None"],
        ),
        ("tokens: 4M", "tokens: 2M", ["batch.tokens: 4194304 → 2097152"]),
        ("hidden_size: 64", "hidden_size: 32", ["model.config.hidden_size: 64 → 32"]),
        ("100 steps", "90 steps", ["stop: 100 steps → 90 steps"]),
        ("stop: 100 steps", "stop: 100 steps\norder: {shuffle: all}", ["order.shuffle: none → all"]),
        # How it is computed and where things lie changes nothing that is learnt.
        ("micro: 2", "micro: 1", []),
        ("name: tiny", "name: other", []),
        ("lock: mixes", "lock: elsewhere", []),
        ("stop: 100 steps", "stop: 100 steps\nout: x\ncheckpoints: {keep: 1}\nparallel: {cp: 4}", []),
        ("stop: 100 steps", "stop: 100 steps\nloss: {chunk: 7}\ncheckpointing: none\ncompile: true", []),
        ("4M", "4194304", []),
        ("100 steps", "100 steps\nseed: 0\ndocuments: true", []),
    ],
)
def test_what_decides_what_is_learnt_is_told_apart_from_how_and_where(old: str, new: str, differs: list[str]) -> None:
    before, after = parse(TEXT), _with(old, new)
    assert changes(before.what(), after.what()) == differs
    assert (before.fingerprint == after.fingerprint) == (not differs)


def test_a_run_that_does_not_decay_may_be_made_longer() -> None:
    text = TEXT.replace("schedule: {kind: wsd, warmup: 100M, decay: 10%}", "schedule: {warmup: 10 steps}")
    assert changes(parse(text).what(), parse(text.replace("100 steps", "200 steps")).what()) == []
    # A warm-up of a share of the run, or a phase that decays, hangs on where it ends.
    for old, new in (("10 steps", "0.1"), ("lr: 1e-5}", "lr: 1e-5}, schedule: {kind: cosine}")):
        other = text.replace(old, new)
        assert changes(parse(other).what(), parse(other.replace("stop: 100", "stop: 200")).what())


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("{}", Shuffle()),
        ("{shuffle: none, seed: 3}", Shuffle()),
        ("{shuffle: all, seed: 3}", Shuffle(5000, 3)),
        ("{shuffle: 64K}", Shuffle(64_000, 0)),
        ("{shuffle: 100}", Shuffle(100, 0)),
    ],
)
def test_an_order_is_the_stream_s_or_a_shuffle(order: str, expected: Shuffle) -> None:
    assert _with("stop: 100 steps", f"order: {order}").order.of(5000) == expected


def test_a_batch_below_one_sequence_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch\.tokens: 4,096 is less than a sequence of 16,384; give 16K or more"):
        _with("tokens: 4M", "tokens: 4K").batch.of(16_384)
