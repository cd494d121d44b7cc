"""Profiles that come with the project: whole, explained, and as their schema says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixture.profile import PLACES, json_schema
from mixture.profile.file import load

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "pipelines").glob("*.yaml"))


def test_the_published_schema_is_the_profile_s() -> None:
    published = json.loads((ROOT / "pipelines" / "profile.schema.json").read_text())
    again = "json.dumps(mixture.profile.json_schema(), indent=1)"
    assert published == json.loads(json.dumps(json_schema())), f"write it again: {again}"


def test_there_is_a_profile_for_every_engine() -> None:
    engines = {load(path).engine for path in SHIPPED}
    assert engines == set(json_schema()["properties"]["engine"]["enum"])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_profile_is_one_names_its_schema_and_stands_in_the_list(path: Path) -> None:
    profile = load(path)
    assert path.stem.startswith(profile.engine)
    assert profile.work
    assert "# yaml-language-server: $schema=profile.schema.json" in path.read_text().splitlines()
    assert f"[{path.name}]({path.name})" in (ROOT / "pipelines" / "README.md").read_text()
    for stage in PLACES:
        given = profile.of(stage)
        assert (given.cpus or 0) >= 1
        assert given.retries is not None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_profile_holds_no_secret_and_no_place_of_one_machine(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"(?i)secret|password|access_key|token\s*:", text)
    assert not re.search(r"/(home|root|work|Users)/\w", text)


def test_every_key_of_a_profile_is_explained_in_the_docs() -> None:
    page = (ROOT / "docs" / "pipelines.md").read_text()
    schema = json_schema()
    keys = {key for part in [schema, *schema["$defs"].values()] for key in part["properties"]}
    assert len(keys) > 25
    assert not {key for key in keys if f"`{key}`" not in page}
    assert not {stage for stage in PLACES if f"`{stage}`" not in page}


def test_every_key_of_the_schema_says_what_it_is() -> None:
    schema = json_schema()
    parts: list[dict[str, Any]] = [schema, *schema["$defs"].values()]
    assert not [key for part in parts for key, field in part["properties"].items() if not field.get("description")]


def test_profiles_in_the_docs_are_profiles(tmp_path: Path) -> None:
    found = 0
    for page in [ROOT / "README.md", ROOT / "pipelines" / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for block in re.findall(r"```yaml\n(engine:.*?)```", page.read_text(), re.DOTALL):
            (tmp_path / "p.yaml").write_text(block)
            load(tmp_path / "p.yaml")
            found += 1
    assert found >= 1


def test_the_example_in_the_module_means_what_its_story_says() -> None:
    import mixture.profile

    story = mixture.profile.__doc__ or ""
    example = yaml.safe_load("\n".join(line[4:] for line in story.splitlines() if line.startswith("    ")))
    profile = mixture.profile.Profile.model_validate(example)
    pack = profile.of("pack")
    assert (pack.cpus, pack.tasks_per_job, pack.memory) == (2, 16, 16 << 30)
