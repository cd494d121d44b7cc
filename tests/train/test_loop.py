"""A run, whole: it learns, stops, goes on, and says what is wrong; one rank, in this process."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from mixture.storage import write_json
from tests.train.conftest import CONFIG, Gym

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


def test_a_small_model_learns_real_text(gym: Gym) -> None:
    said = gym.train(stop="40 steps")
    assert said.code == 0, said.err
    losses = gym.losses()
    assert len(losses) == 40
    assert losses[0] > 5.3  # ln 258 = 5.55: it knows nothing
    assert sum(losses[-5:]) / 5 < 3.9
    assert said.json["step"] == 40
    assert said.json["tokens"] == 40 * 6 * 64


def test_n_then_m_steps_are_n_plus_m_steps_to_the_bit(gym: Gym) -> None:
    gym.train(out="whole", checkpoints={"every": "100 steps"})
    gym.train(out="parts", stop="2 steps", checkpoints={"every": "100 steps"})
    gym.train(out="parts", stop="3 steps", checkpoints={"every": "100 steps"})
    gym.train(out="parts", checkpoints={"every": "100 steps"})
    assert gym.losses("parts") == gym.losses("whole")
    weights = [(gym.root / out / "export" / "model.safetensors").read_bytes() for out in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_a_run_that_has_come_to_its_end_has_nothing_to_do(gym: Gym) -> None:
    first, second = gym.train(), gym.train()
    assert second.json["begun"] == second.json["step"] == first.json["step"] == 6
    assert gym.checkpoints() == ["step-00000002", "step-00000004", "step-00000006"]
    assert len(gym.losses()) == 6


def test_only_the_newest_checkpoints_stay(gym: Gym) -> None:
    gym.train(checkpoints={"every": "1 steps", "keep": 2, "export": False, "asynchronous": False})
    assert gym.checkpoints() == ["step-00000005", "step-00000006"]


def test_an_export_is_read_by_transformers_and_has_the_losses_of_the_run(gym: Gym) -> None:
    from transformers import AutoModelForCausalLM

    gym.train(out="first", stop="5 steps", checkpoints={"every": "100 steps"})
    model = AutoModelForCausalLM.from_pretrained(gym.root / "first" / "export", dtype=torch.float32)
    assert model.config.max_position_embeddings >= 64
    said = gym.train(out="second", model={"path": str(gym.root / "first" / "export")}, stop="1 steps")
    assert said.code == 0, said.err
    gym.train(out="first", stop="6 steps", checkpoints={"every": "100 steps"})
    # The same weights on other sequences are no better than on the first ones before: it did read the weights.
    assert gym.losses("second")[0] < gym.losses("first")[3]


def test_losses_are_told_by_domain_and_position(gym: Gym) -> None:
    gym.train(stop="3 steps")
    for event in gym.events():
        cells = [cell for buckets in event["breakdown"].values() for cell in buckets.values()]
        told = sum(cell["loss"] * cell["tokens"] for cell in cells) / sum(cell["tokens"] for cell in cells)
        assert told == pytest.approx(event["loss"], rel=1e-4)
    assert set().union(*(event["breakdown"] for event in gym.events())) <= {"code", "docs"}


def test_phases_have_their_own_length_rope_and_rate(gym: Gym) -> None:
    changes = {
        "lock": "phased.lock.json",
        "stop": "9 steps",
        "batch": {"tokens": 2048},
        "phases": {"long": {"rope": {"kind": "base", "base": 1e6}, "optimizer": {"lr": 0.0005}}},
    }
    whole = gym.train(out="whole", **changes)
    assert whole.code == 0, whole.err
    events = gym.events("whole")
    assert [event["phase"] for event in events] == ["short"] * 4 + ["long"] * 4
    assert [event["lr"] for event in events] == [0.003] * 4 + [0.0005] * 4
    assert events[4]["sequences"] == 16
    assert events[0]["sequences"] == 32
    newest = json.loads((gym.root / "whole" / "checkpoints" / "step-00000008" / "state.json").read_text())
    assert newest["rope"]["parameters"]["rope_theta"] == 1e6
    # A resume inside the second phase, and one at its border.
    gym.train(out="parts", **(changes | {"stop": "4 steps"}))
    gym.train(out="parts", **(changes | {"stop": "6 steps"}))
    gym.train(out="parts", **changes)
    assert gym.losses("parts") == gym.losses("whole")
    ledger = json.loads((gym.root / "parts" / "ledger.json").read_text())
    assert [phase["sequences"] for phase in ledger["phases"]] == [125, 62]


def test_a_run_goes_on_from_another_ones_weights_and_moments(gym: Gym) -> None:
    gym.train(out="first", stop="4 steps")
    said = gym.train(out="second", after=str(gym.root / "first"), stop="1 steps")
    assert said.code == 0, said.err
    assert f"begins with the weights and moments of {gym.root / 'first'}" in said.err
    # It takes the first sequences again, and knows them.
    assert gym.losses("second")[0] < gym.losses("first")[0] - 0.1


def test_ctrl_c_ends_the_step_saves_and_leaves(gym: Gym, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixture.train import telling

    tell = telling.line

    def interrupted(event: object, goal: object) -> str:
        if event.step == 3:  # type: ignore[attr-defined]
            signal.raise_signal(signal.SIGINT)
        return tell(event, goal)  # type: ignore[arg-type]

    gym.train(out="whole", checkpoints={"every": "100 steps", "export": False})
    monkeypatch.setattr(telling, "line", interrupted)
    said = gym.train(checkpoints={"every": "100 steps", "export": False})
    assert said.code == 130
    assert said.json["stopped"]
    assert gym.checkpoints() == ["step-00000004"]
    monkeypatch.undo()
    assert gym.train(checkpoints={"every": "100 steps", "export": False}).code == 0
    assert gym.losses() == gym.losses("whole")


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(gym: Gym) -> None:
    said = gym.train(optimizer={"lr": 1e30, "clip": "none"}, checkpoints={"every": "1 steps"})
    assert said.code == 1
    assert "the step was not taken and the last checkpoint stays; look at its documents (`mixture trace" in said.error
    assert said.error.startswith("error: step 2: loss ")
    assert "gradient nan" in said.error
    assert gym.checkpoints() == ["step-00000001"]
    assert len(gym.losses()) == 1


def test_a_damaged_row_is_named_and_nothing_is_learnt_from_it(gym: Gym) -> None:
    folder = next((gym.shop.root / "work" / "shards").glob("small-*"))
    shard = min(folder.glob("*.arrow"))
    whole = shard.read_bytes()
    row = bytearray(whole)
    lock = json.loads((gym.shop.root / "small.lock.json").read_text())
    held = lock["made"]["phases"][0]["shards"][0]["sequences"]
    # Tokens of uint16 lie together; the last rows of the shard are taken in the last of the steps.
    tokens = pytest.importorskip("pyarrow").ipc.open_file(shard).get_batch(0).column("input_ids").values.buffers()[1]
    at = whole.index(tokens.to_pybytes()[:256]) + (held - 1) * 64 * 2
    row[at] ^= 1
    shard.write_bytes(bytes(row))
    try:
        said = gym.train()
    finally:
        shard.write_bytes(whole)
    assert said.code == 1
    assert shard.name in said.error
    taken = (held - 1) // 6
    assert len(gym.losses()) == taken
    assert gym.checkpoints()[-1] == f"step-{taken // 2 * 2:08d}"
    assert gym.train().code == 0


def test_a_missing_shard_is_named_before_anything_begins(gym: Gym) -> None:
    folder = next((gym.shop.root / "work" / "shards").glob("small-*"))
    shard = max(folder.glob("*.arrow"))
    aside = shard.rename(shard.with_suffix(".aside"))
    try:
        said = gym.train()
    finally:
        aside.rename(shard)
    assert said.code == 1
    assert f"1 of 10 shards is missing ({shard.name})" in said.error
    assert not (gym.root / "run").exists()


def test_another_config_or_lock_is_refused_in_the_folder_of_a_run(gym: Gym) -> None:
    gym.train(stop="2 steps")
    said = gym.train(optimizer={"lr": 0.001})
    assert "stands at step 2 of a run with another config (optimizer.lr: 0.003 → 0.001); give --changed" in said.error
    assert "name another --out" in gym.train(lock="phased.lock.json").error
    said = gym.train("--changed", optimizer={"lr": 0.001})
    assert said.code == 0
    assert "from here on optimizer.lr: 0.003 → 0.001" in said.err
    assert [event["lr"] for event in gym.events()] == [0.003] * 2 + [0.001] * 4


def test_two_runs_in_one_folder_are_one_too_many(gym: Gym) -> None:
    from mixture.storage import only_run

    gym.train(stop="2 steps")
    with only_run(gym.root / "run"):
        said = gym.train()
    assert said.code == 1
    assert "run is in use by process" in said.error
    assert gym.checkpoints() == ["step-00000002"]


def test_what_another_run_is_saving_stays_when_its_weights_are_taken(gym: Gym) -> None:
    gym.train(out="first", stop="2 steps")
    saving = gym.root / "first" / "checkpoints" / ".step-00000004.tmp"
    saving.mkdir()
    assert gym.train(out="second", after=str(gym.root / "first"), stop="1 steps").code == 0
    assert saving.exists()


def test_the_order_of_a_run_that_has_begun_cannot_change(gym: Gym) -> None:
    gym.train(stop="2 steps")
    said = gym.train("--changed", order={"shuffle": "all"})
    assert "has taken sequences in another order (order.shuffle: none → all)" in said.error
    assert len(gym.losses()) == 2


def test_a_run_keeps_its_config_and_its_lock(gym: Gym) -> None:
    gym.train(stop="1 steps")
    assert (gym.root / "run" / "config.yaml").read_text() == (gym.root / "train.yaml").read_text()
    from mixture import lockfile

    assert lockfile.read(gym.root / "run" / "small.lock.json") == lockfile.read(gym.shop.root / "small.lock.json")


def test_a_checkpoint_of_another_model_is_told(gym: Gym) -> None:
    gym.train(out="first", stop="2 steps")
    model = {"config": CONFIG["model"]["config"] | {"hidden_size": 16}}
    said = gym.train(out="second", model=model, after=str(gym.root / "first"))
    assert "do not fit this model" in said.error
    assert "give the model that wrote it" in said.error


def test_a_checkpoint_that_was_cut_short_is_told(gym: Gym) -> None:
    gym.train(stop="4 steps")
    file = gym.root / "run" / "checkpoints" / "step-00000004" / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[:-1])
    said = gym.train()
    assert f"{file.relative_to(gym.root)}: has" in said.error
    assert "remove run/checkpoints/step-00000004 to go on from the checkpoint before it" in said.error
    shutil.rmtree(file.parent)
    assert gym.train().json["begun"] == 2


def test_what_a_killed_save_left_is_swept_away(gym: Gym) -> None:
    gym.train(stop="2 steps")
    left = gym.root / "run" / "checkpoints" / ".step-00000004.tmp"
    left.mkdir()
    (left / "__0_0.distcp").write_bytes(b"half")
    assert gym.train().code == 0
    assert gym.checkpoints() == ["step-00000002", "step-00000004", "step-00000006"]


def test_a_model_of_another_vocabulary_is_refused(gym: Gym) -> None:
    said = gym.train(model={"config": CONFIG["model"]["config"] | {"vocab_size": 100}})
    assert "the lock's tokenizer has 258 tokens and the model a vocabulary of 100" in said.error


def test_a_lock_that_is_not_packed_is_refused(gym: Gym) -> None:
    path = gym.shop.root / "bare.lock.json"
    lock = json.loads((gym.shop.root / "small.lock.json").read_text())
    from mixture import lockfile

    lockfile.read(gym.shop.root / "small.lock.json").without_shards().write(path)  # type: ignore[union-attr]
    assert lock["made"]["phases"][0]["shards"]
    assert "run `mixture pack` first" in gym.train(lock="bare.lock.json").error


def test_a_run_is_forecast_without_being_begun(gym: Gym) -> None:
    said = gym.train("--dry-run", "--ranks", "8", batch={"sequences": 16})
    assert said.code == 0, said.err
    phase = said.json["phases"][0]
    assert (phase["steps"], phase["batch"], phase["length"], phase["tokens"]) == (6, 16, 64, 6 * 16 * 64)
    assert phase["memory"]["total"] > 0
    shown = gym.shop.call(*(part for part in gym.line("train.yaml", "--dry-run") if part != "--json"), at=gym.root)
    assert shown.code == 0, shown.err
    assert "on one GPU" in shown.out
    assert not (gym.root / "run").exists()


def test_a_lock_is_no_config(gym: Gym) -> None:
    said = gym.shop.call("train", "small.lock.json")
    assert said.error.startswith("error: small.lock.json: a lock; name a config in which it stands")


def test_the_usage_of_ranks_is_told(gym: Gym) -> None:
    said = gym.train("--ranks", "8")
    assert said.code == 2


def test_without_torch_one_sentence_says_what_to_install(gym: Gym, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    said = gym.train()
    assert said.code == 1
    assert "pip install 'mixture[train]'" in said.error


def test_a_ledger_says_what_was_trained_on_and_the_plan_counts_it(gym: Gym) -> None:
    gym.train(stop="4 steps")
    ledger = gym.root / "run" / "ledger.json"
    said = gym.shop.call(
        "plan", "small.yaml", "--consumed", str(ledger), "--lock", str(gym.root / "next.lock.json"), "--json"
    )
    assert said.code == 0, said.err
    told = json.loads((gym.root / "next.lock.json").read_text())["made"]["given"]["consumed"]
    assert [entry["sequences"] for entry in told] == [24]


def test_a_state_that_was_edited_is_refused(gym: Gym) -> None:
    gym.train(stop="2 steps")
    state = gym.root / "run" / "checkpoints" / "step-00000002" / "state.json"
    text = state.read_text()
    state.write_text(text.replace('"sequences": 12', '"sequences": 13'))
    assert "its seal does not fit" in gym.train().error
    write_json(state, {"step": 2})
    assert "not a record of" in gym.train().error
    assert Path(state).exists()


def test_a_rope_too_short_for_a_later_phase_is_told_before_the_first_one(gym: Gym) -> None:
    model = {"config": CONFIG["model"]["config"] | {"max_position_embeddings": 64}}
    gym.train(out="first", stop="1 steps", model=model, checkpoints={"every": "100 steps"})
    said = gym.train(
        out="second",
        lock="phased.lock.json",
        model={"path": str(gym.root / "first" / "export")},
        rope={"kind": "linear", "factor": 1},
        stop="30 steps",
    )
    assert said.code == 1
    assert "128" in said.error, said.err
    assert not (gym.root / "second").exists()
    # A phase that is not reached asks for nothing.
    assert gym.train(out="second", lock="phased.lock.json", model=model, stop="2 steps").code == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch compiles with warnings about itself
def test_compiled_layers_take_the_same_steps(gym: Gym) -> None:
    gym.train(out="plain", stop="2 steps")
    said = gym.train(out="compiled", stop="2 steps", compile=True, checkpointing="full")
    assert said.code == 0, said.err
    assert gym.losses("compiled") == pytest.approx(gym.losses("plain"), rel=1e-5)
