"""A profile that is none: one sentence with file, line, field, value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixture.errors import ProfileError
from mixture.profile.file import load, parse


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engin: local", "p.yaml, line 1: 'engin' is not a key of a profile; did you mean 'engine'?"),
        ("resources:\n  cpu: 4", "p.yaml, line 2: 'cpu' is not a key of resources; did you mean 'cpus'?"),
        (
            "stages:\n  pack:\n    memmory: 4G",
            "p.yaml, line 3: 'memmory' is not a key of stages.pack; did you mean 'memory'?",
        ),
        ("stages:\n  plan: {}\n  pak: {cpus: 2}", "p.yaml, line 3: stages.pak: no such stage; did you mean 'pack'?"),
        ("stages:\n  time: {tiem: 4h}", "p.yaml, line 2: 'tiem' is not a key of stages.time; did you mean 'time'?"),
        ("slurm: {partion: cpu}", "p.yaml, line 1: 'partion' is not a key of slurm; did you mean 'partition'?"),
        (
            "\nengine: slrum",
            "p.yaml, line 2: engine: input should be 'local', 'slurm', 'dask' or 'ray', not 'slrum'",
        ),
        (
            "resources: {memory: 16}",
            "p.yaml, line 1: resources.memory: 16 is 16 bytes, less than 1M; write it as 16G or 512M",
        ),
        (
            "resources:\n  time: 4",
            "p.yaml, line 2: resources.time: 4 is not a duration; write it as 4h, 90m, 1d12h or 02:30:00",
        ),
        (
            "resources:\n  time: 12:30",
            "p.yaml, line 2: resources.time: '12:30' may be hours or minutes; write it as 12h30m or 12:30:00",
        ),
        (
            "resources:\n  retries: -1",
            "p.yaml, line 2: resources.retries: input should be greater than or equal to 0, not -1",
        ),
        ("setup: module load python", "p.yaml, line 1: setup: input should be a list in brackets, not 'module load"),
        ("resources: 4", "p.yaml, line 1: resources: input should be a mapping of keys to values, not 4"),
        ("stages: [pack]", "p.yaml, line 1: stages: input should be a mapping of keys to values"),
        ("work: ''", "p.yaml, line 1: work: is empty; name a folder, or leave the key out"),
        ("engine: dask", "p.yaml, line 1: engine: dask needs one that is there, as dask: {address: tcp://HOST:8786}"),
        ("engine: dask\ndask: {}", "p.yaml, line 2: dask: give exactly one of: address, cluster"),
        (
            "engine: slurm\nworkers: 4",
            "p.yaml, line 2: workers: counts processes of the local engine; engine: slurm takes resources.cpus",
        ),
        ("engine: local\nengine: ray", "p.yaml, line 2: 'engine' is given twice (first on line 1)"),
        ("", "p.yaml: a profile is a mapping of keys to values; pipelines/local.yaml is one to start from"),
        ("engine: [", "p.yaml, line 1: not valid YAML"),
    ],
)
def test_a_fault_is_named_with_its_line_its_value_and_the_nearest_that_is_right(text: str, said: str) -> None:
    with pytest.raises(ProfileError) as error:
        parse(text, "p.yaml")
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_a_profile_that_is_not_there_is_named_with_its_nearest_neighbour(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"slurm\.yaml: no such profile; pipelines/local.yaml is one"):
        load(tmp_path / "slurm.yaml")
    (tmp_path / "slurm.yaml").write_text("engine: slurm\n")
    with pytest.raises(ProfileError, match=r"slrum\.yaml: no such profile; did you mean .*/slurm\.yaml\?"):
        load(tmp_path / "slrum.yaml")
    assert load(tmp_path / "slurm.yaml").engine == "slurm"


def test_a_folder_is_no_profile_and_neither_are_bytes(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"cannot be read .* give a profile file"):
        load(tmp_path)
    (tmp_path / "p.yaml").write_bytes(b"engine: \xff")
    with pytest.raises(ProfileError, match="not UTF-8 text"):
        load(tmp_path / "p.yaml")


def test_a_time_of_day_s_shape_is_no_number_to_the_base_of_sixty() -> None:
    assert parse("resources: {time: 12:30:00}").resources.time == 45_000
    assert parse("resources: {time: 1:30:00}").resources.time == 5_400
