"""What a profile's values mean, and which values there cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mixture.engine.slurm_script import clock
from mixture.profile import DEFAULTS, PLACES, Profile, Resources, expanded, memory, seconds
from mixture.report.jobs import memory_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4h", 14_400),
        ("90m", 5_400),
        ("30s", 30),
        ("1d12h", 129_600),
        ("1d 12h 5m", 129_900),
        ("02:30:00", 9_000),
        ("12:30:00", 45_000),
        ("1-12:00", 129_600),
        ("1-12:00:01", 129_601),
        ("366d", 31_622_400),
    ],
)
def test_durations_are_read_as_people_and_slurm_write_them(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("02:30", "may be hours or minutes; write it as 02h30m or 02:30:00"),
        ("0h", "no time at all"),
        ("367d", "more than a year"),
        ("", "not a duration"),
        ("4 hours", "not a duration"),
        (3600, "not a duration"),
        (None, "not a duration"),
        ("9" * 5000 + "h", "not a duration"),
    ],
)
def test_what_is_no_duration_is_refused_with_how_to_write_it(value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        seconds(value)


@given(st.integers(1, 366 * 86_400))
def test_a_duration_that_is_written_for_slurm_reads_as_itself(value: int) -> None:
    assert seconds(clock(value)) == value


@pytest.mark.parametrize(
    ("value", "size"),
    [("16G", 16 << 30), ("512M", 512 << 20), ("1.5g", 3 << 29), ("2GiB", 2 << 30), ("1T", 1 << 40), (1 << 20, 1 << 20)],
)
def test_memory_is_counted_in_powers_of_1024(value: object, size: int) -> None:
    assert memory(value) == size


@pytest.mark.parametrize("value", ["16", 16, "1K", "0G", "-1G", "G", "16 gigs", True, None, "9" * 400 + "G"])
def test_memory_that_no_job_can_run_in_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="write it as 16G or 512M"):
        memory(value)


@given(st.integers(1, 1 << 20))
def test_memory_in_whole_megabytes_is_shown_as_it_is_read(megabytes: int) -> None:
    assert memory(memory_of(megabytes << 20)) == megabytes << 20


def test_home_and_variables_stand_for_what_they_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("PROJECT", "p1")
    assert expanded("~/work") == "/home/me/work"
    assert expanded("/shared/$PROJECT/${PROJECT}x") == "/shared/p1/p1x"
    assert expanded("s3://bucket/$PROJECT") == "s3://bucket/p1"
    assert expanded("work") == "work"


@pytest.mark.parametrize(("place", "why"), [("/shared/$NOWHERE/x", r"\$NOWHERE is not set"), (" ", "is empty")])
def test_a_place_that_is_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch, place: str, why: str) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(ValueError, match=why):
        expanded(place)


def test_the_scratch_folder_is_left_to_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_TMPDIR", raising=False)
    assert Profile(scratch="$SLURM_TMPDIR/x").scratch == "$SLURM_TMPDIR/x"
    with pytest.raises(ValidationError, match="is not set"):
        Profile(work="$SLURM_TMPDIR/x")


def test_a_stage_s_resources_come_before_those_of_all_and_these_before_the_engine_s() -> None:
    profile = Profile.model_validate(
        {
            "engine": "slurm",
            "resources": {"cpus": 4, "time": "2h"},
            "stages": {"pack": {"cpus": 2, "partition": "big", "flags": ["--qos=long"]}},
            "slurm": {"partition": "cpu", "account": "us", "flags": ["--constraint=avx2"]},
        }
    )
    pack, plan = profile.of("pack"), profile.of("plan")
    assert (pack.cpus, pack.time, pack.partition, pack.account) == (2, 7_200, "big", "us")
    assert pack.flags == ("--qos=long",)
    assert (plan.cpus, plan.partition, plan.flags) == (4, "cpu", ("--constraint=avx2",))


@given(st.sampled_from(PLACES), st.sampled_from(["cpus", "tasks_per_job", "retries"]), st.integers(1, 100))
def test_what_nothing_says_is_the_default_and_what_is_said_holds(stage: str, key: str, value: int) -> None:
    assert Profile().of(stage) == DEFAULTS
    said = Profile(stages={stage: Resources.model_validate({key: value})})
    assert getattr(said.of(stage), key) == value
    assert said.of("another") == DEFAULTS


def test_only_the_slurm_engine_heeds_slurm_s_rules() -> None:
    rules = {"slurm": {"partition": "cpu"}}
    assert Profile.model_validate(rules).of("pack").partition is None
    assert Profile.model_validate(rules | {"engine": "slurm"}).of("pack").partition == "cpu"
