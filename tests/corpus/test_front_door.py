import subprocess
import sys

import pytest

from mixture import corpus
from mixture.corpus.documents import Reading
from mixture.errors import InputError


def test_every_format_of_a_recipe_has_a_reader():
    assert sorted(corpus.FORMATS) == ["arrow", "huggingface", "jsonl", "parquet", "text"]
    for load in corpus.FORMATS.values():
        module = load()
        assert callable(module.chunks)
        assert callable(module.read)


def test_an_unknown_format_names_the_nearest_and_all_the_others(make):
    with pytest.raises(InputError, match=r"'json'; did you mean 'jsonl'\?.*arrow, huggingface, jsonl, parquet, text"):
        corpus.read("json", make("a.json", b""), Reading())
    with pytest.raises(InputError, match="no format is named"):
        corpus.chunks("csv", make("a.csv", b""), Reading())


def test_the_front_door_reads(make):
    file = make("a.jsonl", b'{"text": "one"}\n')
    assert corpus.chunks("jsonl", file, Reading()) == 1
    assert [chunk.texts for chunk in corpus.read("jsonl", file, Reading())] == [[b"one"]]


def test_reading_json_lines_imports_no_datasets():
    code = (
        "import sys; from mixture import corpus; corpus.FORMATS['jsonl'](); corpus.FORMATS['huggingface']();"
        "sys.exit('datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
