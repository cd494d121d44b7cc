"""What every tokenizer promises, whatever is behind it."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixture.errors import TokenizerError
from mixture.recipe.sources import TokenizerSpec
from mixture.tokens import hard
from mixture.tokens.tokenizer import load

from .conftest import SPECS, array, edited, prose, rank_file, write_prefixed

FORGERIES = ["<|endoftext|>", "<s>", "</s>", "[INST]", "<|endofprompt|>", "<unk>", "<bos>", "<0x41>", "a <s>b</s> c"]
LOSSLESS = [name for name in SPECS if name != "prefixed"]


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_text_that_looks_like_a_special_token_stays_text(opened, name, engine):
    tokenizer = opened(name, engine=engine)
    specials = {tokenizer.backend.token_id(s) for s in tokenizer.backend.specials} | {
        tokenizer.bos_id,
        tokenizer.eos_id,
    }
    for text in FORGERIES:
        tokens = tokenizer.encode_text(text)
        assert not specials & set(tokens.tolist())
        assert tokenizer.decode(tokens) == text


@pytest.mark.parametrize("name", [name for name in SPECS if name != "bytes"])
def test_the_fast_engine_gives_the_references_tokens(opened, name):
    fast, slow = opened(name), opened(name, engine="reference")
    assert fast.engine.startswith("gigatoken ")
    assert fast.notice is None
    assert slow.engine == "reference"
    texts = [prose(3_000, seed) for seed in range(8)] + ["", "x", *hard.strings()]
    for one, other in zip(fast.encode(array(*texts)), slow.encode(array(*texts)), strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_offsets_and_slices(opened, name, engine):
    tokenizer = opened(name, engine=engine)
    texts = ["", "one", "naïve 漢字", "", "<s>\n", prose(500)]
    tokens, offsets = tokenizer.encode(array(*texts))
    assert (tokens.dtype, offsets.dtype) == (np.uint32, np.int64)
    assert (offsets[0], offsets[-1], len(offsets)) == (0, len(tokens), len(texts) + 1)
    for row, text in enumerate(texts):
        assert np.array_equal(tokens[offsets[row] : offsets[row + 1]], tokenizer.encode_text(text))
    part, starts = tokenizer.encode(array(*texts))
    assert np.array_equal(part, tokens)
    assert np.array_equal(starts, offsets)
    nothing, zero = tokenizer.encode(array())
    assert (len(nothing), zero.tolist()) == (0, [0])
    hollow, zeros = tokenizer.encode(array("", ""))
    assert (len(hollow), zeros.tolist()) == (0, [0, 0, 0])


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_characters="▁", exclude_categories=["Cs"])))
def test_decoding_gives_the_text_back(opened, name, text):
    tokenizer = CACHE.setdefault(name, opened(name))
    assert tokenizer.decode(tokenizer.encode_text(text)) == text


CACHE: dict = {}


def test_ids_stay_below_the_size_of_the_vocabulary(opened):
    for name in SPECS:
        tokenizer = opened(name)
        assert tokenizer.encode(array(*hard.strings()))[0].max() < tokenizer.n_vocab
        for separator in (tokenizer.bos_id, tokenizer.eos_id):
            assert separator is None or 0 <= separator < tokenizer.n_vocab


def test_separators_are_the_vocabularys_own(opened):
    found = {name: (opened(name, engine="reference").bos_id, opened(name, engine="reference").eos_id) for name in SPECS}
    assert found["bytes"] == (256, 257)
    assert found["cl100k"] == (None, 100257)
    assert found["o200k"] == (None, 199999)
    assert found["trained"] == found["prefixed"] == (1, 2)
    assert found["huggingface"] == (0, 1)


def test_a_recipe_may_name_its_separators(opened):
    assert opened("cl100k", bos="<|fim_prefix|>", eos=7).bos_id == 100258
    assert opened("cl100k", bos="<|fim_prefix|>", eos=7).eos_id == 7
    assert opened("huggingface", eos="<|endoftext|>").eos_id == 2
    assert opened("trained", eos="▁the").eos_id == opened("trained").backend.token_id("▁the")
    assert opened("bytes", eos="<bos>").eos_id == 256
    # The store holds no separators, so naming them does not make it stale.
    assert opened("cl100k", eos=7).fingerprint == opened("cl100k").fingerprint
    with pytest.raises(TokenizerError, match=r"tokenizer.eos: .* has no token '<nope>'.*<\|endoftext\|>"):
        opened("cl100k", eos="<nope>")
    with pytest.raises(TokenizerError, match=r"tokenizer.bos: 258 is not an id of bytes, which has 0 … 257"):
        opened("bytes", bos=258)


def test_fingerprints_are_of_the_content_alone(opened, home, tmp_path):
    prints = {name: opened(name, engine="reference").fingerprint for name in SPECS}
    assert len(set(prints.values())) == len(SPECS)
    assert all(len(f) == 32 and int(f, 16) >= 0 for f in prints.values())

    shutil.copy(home / "sp.model", tmp_path / "other-name.model")
    (tmp_path / "x").mkdir()
    shutil.copy(home / "hf" / "tokenizer.json", tmp_path / "x" / "renamed.json")
    shuffled = (home / "cl100k_base.tiktoken").read_bytes().splitlines()[::-1]
    (tmp_path / "ranks.txt").write_bytes(b"\n".join(shuffled))
    again = {
        "trained": {"kind": "sentencepiece", "path": "other-name.model"},
        "huggingface": {"kind": "huggingface", "path": "x/renamed.json"},
        "cl100k": {"kind": "tiktoken", "path": "ranks.txt", "name": "cl100k_base"},
    }
    for name, spec in again.items():
        assert load(TokenizerSpec.model_validate(spec), tmp_path).fingerprint == prints[name]


def test_a_changed_vocabulary_has_another_fingerprint(opened, home, tmp_path):
    source = home / "hf" / "tokenizer.json"

    def fingerprint(change):
        edited(source, tmp_path / "tokenizer.json", change)
        return load(TokenizerSpec(kind="huggingface", path="."), tmp_path, engine="reference").fingerprint

    own = opened("huggingface").fingerprint
    # What does not touch a text's tokens does not touch the fingerprint either.
    assert fingerprint(lambda j: j.update(truncation=None, padding=None, post_processor=None)) == own
    assert fingerprint(lambda j: j["model"]["merges"].pop()) != own
    assert fingerprint(lambda j: j["added_tokens"].pop()) != own
    assert fingerprint(lambda j: j.update(normalizer={"type": "NFC"})) != own


def test_bytes_are_bytes(opened):
    tokenizer = opened("bytes")
    tokens, offsets = tokenizer.encode(array("aé", "", "🙂"))
    assert tokens.tolist() == [97, 0xC3, 0xA9, 0xF0, 0x9F, 0x99, 0x82]
    assert offsets.tolist() == [0, 3, 3, 7]
    assert tokenizer.decode([256, 104, 105, 257]) == "hi"
    assert (tokenizer.n_vocab, tokenizer.engine, tokenizer.notice) == (258, "reference", None)
    assert tokenizer.check(array("a" * 3_000_000), np.zeros(1, np.uint64), np.zeros(1, np.uint64)) == 0


def test_huggingface_leaves_templates_truncation_and_padding_out(opened):
    tokenizer = opened("huggingface", engine="reference")
    assert tokenizer.decode(tokenizer.encode_text(prose(400))) == prose(400)
    assert len(tokenizer.encode_text("a")) == 1
    # An added token that is not special is vocabulary.
    assert tokenizer.backend.token_id("[TOOL]") in tokenizer.encode_text("use [TOOL] now").tolist()
    assert (
        opened("huggingface").encode_text("use [TOOL] now").tolist() == tokenizer.encode_text("use [TOOL] now").tolist()
    )


def test_huggingface_asks_the_configuration_for_separators(home, tmp_path):
    shutil.copy(home / "hf" / "tokenizer.json", tmp_path / "tokenizer.json")
    config = {"bos_token": {"content": "</s>"}, "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load(TokenizerSpec(kind="huggingface", path="."), tmp_path, engine="reference")
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)


@pytest.mark.parametrize(
    ("path", "content", "match"),
    [
        (
            "none.tiktoken",
            None,
            r"none.tiktoken'? is not a known|'none' is not a known tiktoken encoding \(known: r50k_base",
        ),
        ("cl100k_base.tiktoken", None, r"cl100k_base.tiktoken: no such tiktoken rank file; .*data root"),
        ("cl100k_base.tiktoken", b"aGk= 0\nnot a line\n", r"line 2: b'not a line' is not `base64 rank`"),
        ("cl100k_base.tiktoken", b"aGk= 0\n!!!! 1\n", r"line 2: .* is not `base64 rank`"),
        ("cl100k_base.tiktoken", b"\x00\xff\xfe", r"line 1: .* is not `base64 rank`"),
        ("cl100k_base.tiktoken", b"aGk= 4294967296\n", r"rank 4294967296 is outside 0 … 2\^32-1"),
        ("cl100k_base.tiktoken", b"aGk= -1\n", r"rank -1 is outside"),
        ("cl100k_base.tiktoken", b"aGk= 1\naGo= 1\n", r"two tokens have the same rank"),
        ("cl100k_base.tiktoken", b"aGk= 1\n", r"no rank for byte 0x00 \(256 of 256 bytes missing\)"),
        ("cl100k_base.tiktoken", b"", r"no rank for byte 0x00"),
        ("a.model", None, r"a.model: no such SentencePiece model"),
        ("a.model", b"", r"a.model: not a SentencePiece model \(it holds no pieces\)"),
        ("a.model", b"{}garbage\xff\xff", r"a.model: not a SentencePiece model"),
        ("a.model", b"\x0a\x7fcut", r"not a SentencePiece model \(it ends in the middle of a field\)"),
        ("a.json", None, r"a.json: no such tokenizer.json"),
        ("a.json", b"{", r"a.json: not a tokenizer.json \("),
        ("a.json", b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}', r"not a tokenizer.json"),
        ("a.json", b'{"model": {"type": "BPE", "vocab": {"a": 4294967296}, "merges": []}}', r"not a tokenizer.json"),
        ("a.json", b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', r"a.json: 0 tokens"),
        ("a.json", b"\xff\xfe", r"not a tokenizer.json"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_one_sentence(tmp_path, path, content, match):
    if content is not None:
        (tmp_path / path).write_bytes(content)
    kind = {"tiktoken": "tiktoken", "model": "sentencepiece", "json": "huggingface"}[path.rsplit(".", 1)[1]]
    with pytest.raises(TokenizerError, match=match) as caught:
        load(TokenizerSpec(kind=kind, path=path), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_vocabulary(tmp_path):
    (tmp_path / "cl100k_base.tiktoken").mkdir()
    with pytest.raises(TokenizerError, match=r"cl100k_base.tiktoken: the tiktoken rank file cannot be read"):
        load(TokenizerSpec(kind="tiktoken", path="cl100k_base.tiktoken"), tmp_path)


def test_a_rank_file_cut_short_is_caught(tmp_path):
    rank_file(tmp_path / "cl100k_base.tiktoken", lines=265)
    with pytest.raises(TokenizerError, match=r"265 ranks where cl100k_base has 270; the file is cut short"):
        load(TokenizerSpec(kind="tiktoken", path="cl100k_base.tiktoken"), tmp_path)


def test_without_a_network_a_published_name_is_one_sentence(monkeypatch, tmp_path):
    import huggingface_hub
    import requests

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(requests, "get", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(TokenizerError, match=r"r50k_base cannot be downloaded .*give tokenizer.path"):
        load(TokenizerSpec(kind="tiktoken", name="r50k_base"), tmp_path)
    with pytest.raises(TokenizerError, match=r"'org/model' cannot be fetched from the hub \(no route to host\)"):
        load(TokenizerSpec(kind="huggingface", name="org/model"), tmp_path)


def test_a_published_name_is_downloaded_and_used(opened, monkeypatch, home, tmp_path):
    import huggingface_hub

    asked = []

    def fetch(repo, file, revision):
        asked.append((repo, file, revision))
        if file != "tokenizer.json":
            raise OSError("no such file in the repository")
        return str(home / "hf" / "tokenizer.json")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    tokenizer = load(TokenizerSpec(kind="huggingface", name="org/model", revision="abc"), tmp_path)
    assert tokenizer.name == "org/model"
    assert tokenizer.eos_id == 1
    assert asked == [("org/model", "tokenizer.json", "abc"), ("org/model", "tokenizer_config.json", "abc")]

    from mixture.tokens import backend_tiktoken

    real = backend_tiktoken._definition
    ranks = backend_tiktoken._parse((home / "r50k_base.tiktoken").read_bytes(), home)
    monkeypatch.setattr(backend_tiktoken, "_definition", lambda name, _=None: real(name, lambda *_, **__: ranks))
    by_name = load(TokenizerSpec(kind="tiktoken", name="r50k_base"), tmp_path)
    assert by_name.fingerprint == opened("r50k").fingerprint


def test_tiktokens_panic_is_a_sentence(opened):
    tokenizer = opened("cl100k", engine="reference")
    text = "a" + " " * 1_500_000 + "b"
    with pytest.raises(TokenizerError, match=r"tiktoken cannot split a text of 1,500,002 characters"):
        tokenizer.encode_text(text)
    # The fast engine has no such limit.
    assert opened("cl100k").decode(opened("cl100k").encode_text(text)) == text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "unigram", "vocab_size": 380}, "it is not a BPE model"),
        ({"byte_fallback": False, "vocab_size": 300}, "it has no byte fallback"),
        ({"user_defined_symbols": ["[TOOL]"]}, "it has user-defined pieces"),
        ({"remove_extra_whitespaces": True}, "it removes extra spaces"),
        ({"treat_whitespace_as_suffix": True}, "it puts spaces after words"),
    ],
)
def test_models_without_a_fast_engine_use_the_reference_and_say_so(tmp_path, options, reason):
    write_prefixed(tmp_path / "m.model", [prose(20_000, 1)], **options)
    tokenizer = load(TokenizerSpec(kind="sentencepiece", path="m.model"), tmp_path)
    assert tokenizer.engine == "reference"
    assert tokenizer.proof.outcome == "unavailable"
    assert reason in (tokenizer.notice or "")
    assert (tokenizer.notice or "").endswith("using the reference, about 15× slower")
    assert tokenizer.encode_text("the <s> of").tolist() == tokenizer.backend.encode_text("the <s> of")


@pytest.mark.skipif(not os.environ.get("MIXTURE_VOCABULARIES"), reason="real vocabularies are not in the repository")
def test_real_vocabularies(monkeypatch):
    from mixture.tokens import backend_tiktoken

    monkeypatch.setitem(backend_tiktoken.RANK_COUNTS, "cl100k_base", 100_256)
    root = Path(os.environ["MIXTURE_VOCABULARIES"])
    for spec in (
        TokenizerSpec(kind="tiktoken", path="cl100k_base.tiktoken"),
        TokenizerSpec(kind="sentencepiece", path="mistral-7b-v1.sentencepiece.model"),
    ):
        assert load(spec, root).proof.outcome == "equal"
