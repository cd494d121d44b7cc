"""The Hugging Face Trainer on our shards: the same sequences, on any number of ranks, and after a resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from accelerate.data_loader import prepare_data_loader  # noqa: E402
from torch.utils.data import DataLoader, SequentialSampler  # noqa: E402

from mixture.loader.batch import Sequences, Steps  # noqa: E402
from mixture.loader.stream import Stream  # noqa: E402
from mixture.pack.shuffle import Shuffle  # noqa: E402
from tests.loader.conftest import Shelf  # noqa: E402

Shelves = Callable[[str], Shelf]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def stream(shelves: Shelves) -> Stream:
    return shelves("best-fit").stream(shuffle=Shuffle(1 << 40, 6))


def model() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    return transformers.LlamaForCausalLM(config)


class Read(Sequences):
    """Notes which sequences are collated."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.seen: list[list[int]] = []

    def collate(self, sequences: Any) -> dict[str, Any]:
        self.seen.append(list(sequences))
        return super().collate(self.seen[-1])


def trainer(data: Read, out: Path, **more: Any) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        train_sampling_strategy="sequential",
        num_train_epochs=1,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="steps",
        save_steps=3,
        **more,
    )
    return transformers.Trainer(model(), arguments, train_dataset=data, data_collator=data.collate)


def losses(trained: Any) -> list[float]:
    return [line["loss"] for line in trained.state.log_history if "loss" in line]


def test_the_trainer_sees_each_sequence_once_in_our_order(stream: Stream, tmp_path: Path) -> None:
    data = Read(stream, multiple=4)
    trained = trainer(data, tmp_path)
    trained.train()
    seen = [sequence for batch in data.seen for sequence in batch]
    assert [sequence for sequence in seen if sequence >= 0] == stream.taken(0, len(stream)).tolist()
    assert len(seen) == len(data) == -(-len(stream) // 4) * 4
    assert data.state(trained.state.global_step) == stream.state(len(stream))
    assert losses(trained)[-1] < losses(trained)[0]


def test_resumed_it_goes_on_without_reading_what_was_trained_on(stream: Stream, tmp_path: Path) -> None:
    whole = Read(stream, multiple=4)
    first = trainer(whole, tmp_path / "whole")
    first.train()
    again = Read(stream, multiple=4)
    second = trainer(again, tmp_path / "whole")
    second.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert again.seen == whole.seen[6:]
    assert json.loads((tmp_path / "whole" / "checkpoint-3" / "trainer_state.json").read_text())["global_step"] == 3
    assert losses(second)[-3:] == pytest.approx(losses(first)[-3:], rel=1e-5)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_accelerate_deals_each_sequence_to_one_rank(stream: Stream, ranks: int, workers: int) -> None:
    data = Sequences(stream, multiple=2 * ranks)
    dealt: list[list[int]] = []
    for rank in range(ranks):
        more = {"multiprocessing_context": "fork"} if workers else {}
        plain = DataLoader(
            data, batch_size=2, sampler=SequentialSampler(data), collate_fn=list, num_workers=workers, **more
        )
        prepared = prepare_data_loader(plain, num_processes=ranks, process_index=rank, put_on_device=False)
        dealt.append([sequence for batch in prepared for sequence in batch])
    assert len({len(mine) for mine in dealt}) == 1
    real = sorted(sequence for mine in dealt for sequence in mine if sequence >= 0)
    assert real == list(range(len(stream)))


def test_its_loss_is_that_of_documents_on_their_own(shelves: Shelves) -> None:
    stream = shelves("intact").stream()
    data = Sequences(stream)
    net = model().eval()
    batch = data.batch(range(3))
    with torch.no_grad():
        packed = net(**batch.huggingface()).loss
        sums, count = 0.0, 0
        ids = batch.input_ids.reshape(-1)
        labels = batch.labels.reshape(-1)
        for start, stop in zip(batch.cu_seqlens.tolist(), batch.cu_seqlens[1:].tolist(), strict=False):
            logits = net(input_ids=ids[None, start:stop]).logits[0]
            mine = labels[start:stop]
            sums += float(torch.nn.functional.cross_entropy(logits, mine, reduction="sum"))
            count += int((mine != -100).sum())
    assert float(packed) == pytest.approx(sums / count, rel=1e-5)


def test_it_may_begin_where_our_trainer_stopped(stream: Stream) -> None:
    steps = Steps(stream, batch=10)
    for step in steps:
        list(step)
        if step.number == 2:
            break
    data = Sequences(stream, multiple=4, state=steps.state)
    assert [data[place] for place in range(4)] == stream.taken(30, 34).tolist()
    assert data.state(1) == stream.state(34)
    with pytest.raises(IndexError):
        data[len(data)]
