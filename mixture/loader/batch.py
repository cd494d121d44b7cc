"""Micro-batches as tensors: for our trainer, for DataLoader and StatefulDataLoader, for the Hugging Face Trainer.

    Steps       step after step of one rank, made in a thread: the plain loop
    Batches     an IterableDataset: DataLoader(Batches(…), batch_size=None, num_workers=…)
    Counted     a loader around such a DataLoader whose state counts what was delivered, not what workers made ahead
    Sequences   a map-style dataset with its collator: Trainer(train_dataset=s, data_collator=s.collate)

The only module of the loader that imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from mixture.errors import LockError, MixtureError
from mixture.loader import Spans
from mixture.loader.order import BLANK, Share
from mixture.loader.state import State
from mixture.loader.steps import IGNORED, Arrays, Step, StepsOf, Walk
from mixture.loader.stream import Stream

__all__ = ["IGNORED", "Batch", "Batches", "Counted", "Sequences", "Step", "Steps"]

_TENSORS = ("input_ids", "labels", "position_ids", "cu_seqlens")


@dataclass(frozen=True)
class Batch:
    """A micro-batch; see `steps.Arrays`.

    Attributes:
        input_ids: int64, shape (rows, length).
        labels: the token after each place, -100 where none is learnt, int64, shape (rows, length).
        position_ids: int64, shape (rows, length).
        cu_seqlens: where segments begin in the flattened rows, and their places, int32, shape (segments + 1,).
        max_seqlen: places of the longest segment.
        sequences: numbers in the phase, -1 for a blank row.
        spans: of these rows, numpy.
        state: what is taken once this micro-batch is; it counts whole steps.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    cu_seqlens: torch.Tensor
    max_seqlen: int
    sequences: tuple[int, ...]
    spans: Spans
    state: State

    @staticmethod
    def of(arrays: Arrays) -> Batch:
        """Wrap arrays as tensors, without a copy."""
        return Batch(
            input_ids=torch.from_numpy(arrays.input_ids),
            labels=torch.from_numpy(arrays.labels),
            position_ids=torch.from_numpy(arrays.position_ids),
            cu_seqlens=torch.from_numpy(arrays.cu_seqlens),
            max_seqlen=arrays.max_seqlen,
            sequences=arrays.sequences,
            spans=arrays.spans,
            state=arrays.state,
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return it with its tensors on a device."""
        moved = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in _TENSORS}
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """Return it with its tensors in pinned memory; DataLoader's `pin_memory` calls this."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in _TENSORS})

    def huggingface(self) -> dict[str, Any]:
        """Return it as a Hugging Face causal model takes it: one flat row, labels that the model shifts itself.

        Documents are told by the positions, which begin anew, and by `cu_seq_lens_q` and its like, which FlashAttention
        takes; there is no attention mask. Without a cache: with one, transformers would not look at the positions.
        """
        labels = torch.full((1, self.labels.numel()), IGNORED)
        # The last place of a row has no label, so that none moves into the row after it.
        labels[0, 1:] = self.labels.reshape(-1)[:-1]
        return {
            "input_ids": self.input_ids.reshape(1, -1),
            "labels": labels,
            "position_ids": self.position_ids.reshape(1, -1),
            "cu_seq_lens_q": self.cu_seqlens,
            "cu_seq_lens_k": self.cu_seqlens,
            "max_length_q": self.max_seqlen,
            "max_length_k": self.max_seqlen,
            "use_cache": False,
        }


class Steps(StepsOf[Batch]):
    """The steps of one rank, as tensors; arguments as of `steps.Steps`."""

    def _made(self, arrays: Arrays) -> Batch:
        return Batch.of(arrays)


class Batches(IterableDataset[Batch]):
    """The micro-batches of one rank, for `DataLoader(…, batch_size=None)` and torchdata's `StatefulDataLoader`.

    Workers take turns, so that the batches come in the same order whatever their number. Iterated again, it begins at
    the same state again.

    Args:
        stream: the phase.
        batch: sequences of a step, over all ranks: those between two updates of the weights.
        micro: rows that a rank takes at once.
        rank: which data-parallel rank.
        ranks: how many there are.
        documents: whether each document is on its own, see `steps.Steps`.
        balance: whether ranks are made level, see `steps.Steps`.
        state: where to begin; at the start of the phase by default.

    Raises:
        MixtureError: the batch does not share out.
        LockError: the state is not of this stream.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        batch: int,
        micro: int = 1,
        rank: int = 0,
        ranks: int = 1,
        documents: bool = True,
        balance: bool = True,
        state: State | None = None,
    ) -> None:
        begin = stream.state() if state is None else state
        self._walk = Walk(stream, Share(batch, micro, rank, ranks), begin, documents, balance)
        #: Where this process stands: sequences taken by whole steps, and which micro-batch of the next step is its own
        #: next one; None where each worker begins with that of its number.
        self._at: tuple[int, int | None] = (begin.sequences, None)
        self._resumed = False

    @property
    def stream(self) -> Stream:
        """The phase."""
        return self._walk.stream

    @property
    def start(self) -> State:
        """Where an iteration begins."""
        return self._walk.state

    def __len__(self) -> int:
        return len(self._walk)

    def __iter__(self) -> Iterator[Batch]:
        worker, workers = _turn()
        if not self._resumed:
            self._at = (self._walk.state.sequences, None)
        self._resumed = False
        sequences, micro = self._at
        first = worker if micro is None else micro
        walk = replace(self._walk, state=self.stream.state(sequences))
        return self._batches(walk, first, workers)

    def _batches(self, walk: Walk, first: int, every: int) -> Iterator[Batch]:
        number = first
        for _, arrays in walk.micros(first, every):
            number += every
            steps, micro = divmod(number, walk.share.accumulate)
            place = walk.state.sequences + steps * walk.share.batch
            self._at = (place, micro) if number < len(walk) else (len(self.stream), 0)
            yield Batch.of(arrays)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of this process: lock, phase and sequences.

        In mid-step, and in each of several workers, it says more, and then only as many ranks and workers with the
        same batches can go on from it. `Batch.state` and `Counted` have a state for any number of them.
        """
        sequences, micro = self._at
        plain = self.stream.state(sequences).state_dict()
        workers = _turn()[1]
        if micro is None or (workers == 1 and not micro):
            return plain
        return plain | {"micro": micro, "share": self._mine(workers)}

    def load_state_dict(self, value: Mapping[str, Any]) -> None:
        """Begin, at the next iteration, where a state says.

        Raises:
            LockError: it is not of this stream, or of other ranks or workers and in mid-step.
        """
        found = dict(value)
        micro, share = found.pop("micro", None), found.pop("share", None)
        state = State.of(found)
        self.stream.check_state(state)
        if micro is None:
            self._walk = replace(self._walk, state=state)
        elif share != self._mine(_turn()[1]):
            raise LockError(
                f"the loader's state is of one worker in mid-step ({_told(share)}), and this is another "
                f"({_told(self._mine(_turn()[1]))}): keep those numbers, or save the state of `Counted`, good for any"
            )
        self._at, self._resumed = (state.sequences, micro), True

    def _mine(self, workers: int) -> dict[str, int]:
        return vars(self._walk.share) | {"workers": workers}


def _told(share: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in share.items()) if isinstance(share, Mapping) else repr(share)


def _turn() -> tuple[int, int]:
    """Return which worker this process is, and how many there are."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


class Counted:
    """A loader whose state counts what was delivered.

    Workers make batches ahead of the loop, so that no worker knows what was trained on. Each batch does know what is
    taken with it; this keeps that of the last one. Saved here, the state is three plain values, and any number of ranks
    and workers may go on from it.

    Args:
        loader: a DataLoader, or torchdata's StatefulDataLoader, of `Batches`.
    """

    def __init__(self, loader: Any) -> None:
        if not isinstance(getattr(loader, "dataset", None), Batches):
            raise MixtureError("Counted takes a DataLoader of loader.batch.Batches, with batch_size=None")
        self.loader = loader
        self._state: State = loader.dataset.start

    @property
    def state(self) -> State:
        """What is taken with the last batch that was delivered; whole steps."""
        return self._state

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        self._state = self.loader.dataset.start
        for batch in self.loader:
            self._state = batch.state
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return self._state.state_dict()

    def load_state_dict(self, value: Mapping[str, Any]) -> None:
        """Begin, at the next iteration, where a state says; before the first iteration if workers are persistent.

        Raises:
            LockError: it is not of this stream.
        """
        self._state = State.of(value)
        self.loader.dataset.load_state_dict(value)


class Sequences(Dataset[int]):
    """The places of a phase's order as a map-style dataset, for the Hugging Face Trainer and its like.

    An item is the number of a sequence; `collate` reads the sequences of a batch, in the worker if there are any. The
    Trainer deals batches to ranks, counts steps and skips what was trained on when it resumes, all without reading.

        data = Sequences(stream, multiple=per_device * ranks * accumulation)
        Trainer(model, TrainingArguments(…, train_sampling_strategy="sequential"), train_dataset=data,
                data_collator=data.collate)

    Args:
        stream: the phase.
        multiple: sequences of a step, over all ranks; blank rows fill up the last one, so that the Trainer neither
            drops nor repeats any.
        documents: whether each document is on its own, see `steps.Steps`.
        state: where to begin; at the start of the phase by default.

    Raises:
        LockError: the state is not of this stream.
    """

    def __init__(
        self, stream: Stream, *, multiple: int = 1, documents: bool = True, state: State | None = None
    ) -> None:
        begin = stream.state() if state is None else state
        self._walk = Walk(stream, Share(multiple), begin, documents)

    def __len__(self) -> int:
        share = self._walk.share
        return share.steps(self._walk.left) * share.batch

    def __getitem__(self, place: int) -> int:
        """Return the number of a sequence, -1 for a blank row.

        Raises:
            IndexError: there is no such place.
        """
        if not 0 <= place < len(self):
            raise IndexError(place)
        at = self._walk.state.sequences + place
        stream = self._walk.stream
        return int(stream.taken(at, at + 1)[0]) if at < len(stream) else BLANK

    def batch(self, sequences: Iterable[int]) -> Batch:
        """Read some sequences."""
        walk = self._walk
        return Batch.of(walk.arrays(np.fromiter(sequences, np.int64), walk.state))

    def collate(self, sequences: Iterable[int]) -> dict[str, Any]:
        """Read some sequences as a Hugging Face model takes them; see `Batch.huggingface`."""
        return self.batch(sequences).huggingface()

    def state(self, steps: int) -> State:
        """Return the state after so many steps of `multiple` sequences."""
        walk = self._walk
        taken = walk.state.sequences + steps * walk.share.batch
        return walk.stream.state(min(taken, len(walk.stream)))
