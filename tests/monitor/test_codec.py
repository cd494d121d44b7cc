"""A codec is a model's own tokenizer, wherever its file lies, and pieces joined as tokens stay what they are."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from mixture.errors import MonitorError
from mixture.monitor.codec import Codec, open_codec
from mixture.storage import as_place
from tests.conftest import Kitchen, documents
from tests.monitor.texts import VOCABULARIES, codec_of
from tests.tokens.conftest import _small_ranks, hf_tokenizer, home

__all__ = ["_small_ranks", "home"]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_pieces_joined_as_tokens_read_as_the_text(name: str, home: Path) -> None:
    codec = codec_of(name, home)
    pieces = ("It was dry.", " The number of Oslo is:", " 7382914", ".", "\n\nQuestion: what?\nAnswer:")
    tokens = [*codec.encode(pieces[0]), *(token for piece in pieces[1:] for token in codec.after(piece))]
    assert codec.decode(tokens).strip() == "".join(pieces)
    assert all(0 <= token < codec.n_vocab for token in tokens)


def test_a_piece_gets_no_blank_that_the_vocabulary_puts_before_texts(home: Path) -> None:
    codec = codec_of("prefixed", home)
    assert codec.encode("the") != codec.after("the")
    assert codec.encode("the") == codec.after(" the")


def test_a_piece_that_the_anchors_swallow_is_encoded_alone(home: Path) -> None:
    codec = codec_of("cl100k", home)
    # "\n" + "\n\n" is cut otherwise than "\n"; "." + "\n\n" is one token in this vocabulary's split.
    assert codec.decode(codec.after("\n\n")) == "\n\n"
    assert codec.after("") == []


def test_bytes_are_their_own_tokens() -> None:
    codec = open_codec("bytes")
    assert (codec.encode("ab"), codec.after("a\n"), codec.n_vocab) == ([97, 98], [97, 10], 258)
    assert (codec.bos_id, codec.eos_id, codec.opening, codec.name) == (256, 257, (), "bytes")
    assert codec.decode([104, 105, 257]) == "hi"


def test_a_folder_s_own_tokenizer_is_found_whatever_its_kind(home: Path, tmp_path: Path) -> None:
    for name, file in (
        ("hf/tokenizer.json", "tokenizer.json"),
        ("prefixed.model", "tokenizer.model"),
        ("cl100k_base.tiktoken", "cl100k_base.tiktoken"),
    ):
        folder = tmp_path / file
        folder.mkdir()
        shutil.copy(home / name, folder / file)
        assert open_codec(folder).fingerprint == open_codec(home / name).fingerprint


def test_the_opening_is_what_the_model_s_tokenizer_puts_before_a_text(home: Path, tmp_path: Path) -> None:
    # The file's template is <s> $A </s>; its truncation and padding must not matter.
    assert open_codec(home / "hf").opening == (0,)
    assert open_codec(home / "prefixed.model").opening == ()
    shutil.copy(home / "prefixed.model", tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True}))
    assert open_codec(tmp_path).opening == (open_codec(tmp_path).bos_id,)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run's folder with its lock and a checkpoint, as the trainer leaves it."""
    with ExitStack() as stack:
        kitchen = Kitchen(tmp_path / "kitchen", stack)
        kitchen.corpus(documents(30))
        built = kitchen.build(budget=4_000, domains="natural", lengths="natural", separator="bos")
        run = tmp_path / "run"
        (run / "checkpoints" / "step-00000002").mkdir(parents=True)
        built.lock.write(as_place(run / "small.lock.json"))
    return run


def test_a_run_s_lock_names_a_vocabulary_that_needs_no_file(runs: Path) -> None:
    for place in (runs, runs / "checkpoints" / "step-00000002", runs / "small.lock.json"):
        codec = open_codec(place)
        assert codec.name == "bytes"
        assert codec.opening == (256,)


def test_a_run_s_vocabulary_is_found_with_the_model_that_it_began_with(tmp_path: Path) -> None:
    model = tmp_path / "model"
    hf_tokenizer(model / "tokenizer.json")
    with ExitStack() as stack:
        kitchen = Kitchen(tmp_path / "kitchen", stack)
        kitchen.corpus(documents(30))
        recipe = kitchen.recipe(budget=4_000, domains="natural", lengths="natural")
        shutil.copy(model / "tokenizer.json", kitchen.root / "tokenizer.json")
        told = recipe.read_text().replace("{kind: bytes}", "{kind: huggingface, path: tokenizer.json}")
        recipe.write_text(told)
        kitchen.build(recipe).lock.write(as_place(tmp_path / "run" / "small.lock.json"))
    run = tmp_path / "run"
    with pytest.raises(MonitorError, match=r"made with a huggingface vocabulary of \d+ tokens, .* with --tokenizer"):
        open_codec(run)
    config = {"name": "a", "lock": "a.lock.json", "model": {"path": str(model)}, "stop": "1 steps"}
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"batch": {"sequences": 1}, "optimizer": {"lr": 0.1}}))
    assert open_codec(run).fingerprint == open_codec(model).fingerprint
    shutil.rmtree(model)
    with pytest.raises(MonitorError, match="with --tokenizer"):
        open_codec(run)


def test_what_is_no_tokenizer_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match=r"gone: no such tokenizer; give"):
        open_codec(tmp_path / "gone")
    with pytest.raises(MonitorError, match=r"no tokenizer is there .* --tokenizer"):
        open_codec(tmp_path)
    (tmp_path / "vocabulary.bin").write_bytes(b"?")
    with pytest.raises(MonitorError, match=r"vocabulary.bin: not known as a tokenizer"):
        open_codec(tmp_path / "vocabulary.bin")


def test_a_codec_may_be_made_of_a_tokenizer_that_is_open(home: Path) -> None:
    opened = open_codec(home / "hf")
    assert Codec(opened.tokenizer).opening == ()
