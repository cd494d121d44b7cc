"""Hugging Face data sets: local folders for real, the hub by the arguments that it would be asked with."""

import json

import pytest

from mixture.corpus import huggingface
from mixture.corpus.documents import InputFile, Reading
from mixture.errors import InputError

datasets = pytest.importorskip("datasets")

ROWS = [{"text": f"text {n}", "meta": {"title": f"t{n}"}, "n": n} for n in range(50)]


@pytest.fixture
def folder(tmp_path):
    """A folder that `save_to_disk` wrote, with one split or several."""

    def save(data, name="saved"):
        data.save_to_disk(str(tmp_path / name))
        return InputFile(name, tmp_path / name, 0, "d" * 32)

    return save


@pytest.fixture
def data_files(tmp_path):
    """A folder of JSON lines, and the options that keep `datasets`' cache out of the home folder."""
    place = tmp_path / "files"
    place.mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (place / "train.jsonl").write_text(lines)
    return InputFile("files", place, 0, ""), (("cache_dir", str(tmp_path / "cache")),)


def texts_of(chunks):
    return [text.decode() for chunk in chunks for text in chunk.texts]


def test_a_saved_set_is_read_in_chunks_of_a_fixed_number_of_rows(folder, small_chunks):
    file = folder(datasets.Dataset.from_list(ROWS))
    small_chunks(100)
    reading = Reading(columns=("meta.title", "n"))
    chunks = list(huggingface.read(file, reading))
    assert texts_of(chunks) == [row["text"] for row in ROWS]
    assert len(chunks) == huggingface.chunks(file, reading) > 3
    assert len({chunk.rows for chunk in chunks[:-1]}) == 1
    assert chunks[0].columns["meta.title"].to_pylist()[:2] == ["t0", "t1"]
    every_third = [list(huggingface.read(file, reading, start, 3)) for start in range(3)]
    assert sorted(chunk.index for chunks in every_third for chunk in chunks) == list(range(len(chunks)))
    assert texts_of(every_third[1]) == texts_of(chunks[1::3])


def test_a_split_of_a_saved_dictionary_is_chosen_by_name(folder):
    one, two = datasets.Dataset.from_list(ROWS[:3]), datasets.Dataset.from_list(ROWS[3:5])
    file = folder(datasets.DatasetDict({"train": one, "validation": two}))
    assert texts_of(huggingface.read(file, Reading(options=(("split", "validation"),)))) == ["text 3", "text 4"]
    assert len(texts_of(huggingface.read(file, Reading()))) == 3
    with pytest.raises(InputError, match=r"saved: no split 'valid'; did you mean 'validation'.*train, validation"):
        huggingface.chunks(file, Reading(options=(("split", "valid"),)))


def test_a_folder_of_data_files_is_loaded_without_a_word(data_files, capfd):
    file, options = data_files
    assert texts_of(huggingface.read(file, Reading(options=options))) == [row["text"] for row in ROWS]
    assert huggingface.chunks(file, Reading(options=options)) == 1
    assert capfd.readouterr() == ("", "")


def test_a_stream_has_chunks_of_a_fixed_number_of_rows_and_no_known_end(data_files, monkeypatch):
    file, options = data_files
    monkeypatch.setattr(huggingface, "STREAM_ROWS", 8)
    reading = Reading(columns=("meta.title",), options=(*options, ("streaming", "true")))
    assert huggingface.chunks(file, reading) is None
    chunks = list(huggingface.read(file, reading))
    assert [chunk.rows for chunk in chunks] == [8] * 6 + [2]
    assert texts_of(chunks) == [row["text"] for row in ROWS]
    assert texts_of(huggingface.read(file, reading, 1, 2)) == texts_of(chunks[1::2])
    assert chunks[6].columns["meta.title"].to_pylist() == ["t48", "t49"]


@pytest.mark.parametrize("streaming", ["true", "false"])
def test_the_hub_is_asked_for_the_pinned_revision(monkeypatch, tmp_path, streaming):
    asked = {}

    def load_dataset(path, **arguments):
        asked.update(arguments, path=path)
        data = datasets.Dataset.from_list(ROWS)
        return data.to_iterable_dataset() if arguments["streaming"] else data

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    options = {"hub": "some/set", "revision": "a" * 40, "config": "en", "split": "test", "streaming": streaming}
    file = InputFile("hub:some/set", tmp_path / "some/set", 0, "")
    assert len(texts_of(huggingface.read(file, Reading(options=tuple(options.items()))))) == 50
    assert asked == {
        "path": "some/set",
        "name": "en",
        "split": "test",
        "revision": "a" * 40,
        "streaming": streaming == "true",
        "cache_dir": None,
    }


def test_a_hub_out_of_reach_is_one_sentence_with_the_next_move(monkeypatch, tmp_path):
    def load_dataset(path, **arguments):
        raise ConnectionError("Couldn't reach 'some/set' on the Hub\n(offline)")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    reading = Reading(options=(("hub", "some/set"), ("revision", "b" * 40)))
    with pytest.raises(InputError) as caught:
        list(huggingface.read(InputFile("some/set", tmp_path, 0, ""), reading))
    said = str(caught.value)
    assert said.startswith(f"some/set at revision {'b' * 40}: cannot be loaded from the hub (Couldn't reach")
    assert "check the network" in said
    assert "\n" not in said


def test_bad_rows_and_missing_fields_are_said_as_for_any_table(folder):
    file = folder(datasets.Dataset.from_list([{"text": "a"}, {"text": None}, {"text": ""}]))
    (chunk,) = huggingface.read(file, Reading(skip_bad=True))
    assert [(reject.row, reject.reason) for reject in chunk.rejects] == [(1, "null text"), (2, "empty text")]
    with pytest.raises(InputError, match="row 1: 'text' is null"):
        list(huggingface.read(file, Reading()))
    with pytest.raises(InputError, match=r"no field 'texts'.*did you mean 'text'"):
        huggingface.chunks(file, Reading(text="texts"))


def test_a_folder_that_is_no_data_set_is_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    file = InputFile("empty", tmp_path / "empty", 0, "")
    with pytest.raises(InputError, match=r"^empty: not a data set that `datasets` can load"):
        huggingface.chunks(file, Reading(options=(("cache_dir", str(tmp_path / "cache")),)))
    with pytest.raises(InputError, match=r"^gone: no such folder"):
        huggingface.chunks(InputFile("gone", tmp_path / "gone", 0, ""), Reading())


def test_a_saved_set_cut_short_is_one_sentence(folder):
    file = folder(datasets.Dataset.from_list(ROWS))
    (data,) = file.path.glob("*.arrow")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(InputError, match=r"^saved: not a data set"):
        list(huggingface.read(file, Reading()))
