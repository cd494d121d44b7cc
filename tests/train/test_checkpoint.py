"""What is said of a checkpoint that cannot be read."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch.distributed.checkpoint.api import CheckpointException

from mixture.train.checkpoint import cause_of


def test_what_torch_wraps_is_told_by_its_cause() -> None:
    lost = OSError("gone")
    assert cause_of(lost) is lost
    assert cause_of(CheckpointException("read", {3: (ValueError("later"), None), 1: (lost, None)})) is lost


def test_ctrl_c_that_torch_wraps_is_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt):
        cause_of(CheckpointException("read", {0: (KeyboardInterrupt(), None)}))
