"""What is written twice is checked to be the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mixture
from mixture import scaffold
from mixture.recipe import json_schema
from mixture.recipe.file import load, parse
from mixture.train import config as train_config

ROOT = Path(__file__).parents[2]


def test_the_published_schema_is_the_recipe_s() -> None:
    published = json.loads((ROOT / "manifests" / "recipe.schema.json").read_text())
    assert published == json.loads(json.dumps(json_schema())), "write it again: python -m mixture.recipe"


def test_the_quick_start_is_what_init_writes() -> None:
    assert (ROOT / "manifests" / "quickstart.yaml").read_text() == scaffold.quickstart()


MANIFESTS = sorted((ROOT / "manifests").glob("*.yaml"))


RECIPES = [path for path in MANIFESTS if not path.stem.startswith(("train-", "monitor-"))]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_manifest_is_a_recipe_of_its_name(path: Path) -> None:
    assert load(path).name == path.stem


@pytest.mark.parametrize("path", [p for p in MANIFESTS if p.stem.startswith("train-")], ids=lambda p: p.stem)
def test_a_manifest_to_train_is_a_config_of_its_name_on_a_recipe_that_is_there(path: Path) -> None:
    config = train_config.load(path)
    assert config.name == path.stem
    assert (ROOT / config.lock.replace(".lock.json", ".yaml")).is_file()


def test_the_published_schema_is_the_suite_s_and_the_manifest_a_suite() -> None:
    from mixture.monitor import suite

    published = json.loads((ROOT / "manifests" / "monitor.schema.json").read_text())
    assert published == json.loads(json.dumps(suite.json_schema())), "write json_schema() of it again"
    found = suite.FORM.load(ROOT / "manifests" / "monitor-quickstart.yaml")
    assert found.levels == suite.LEVELS
    assert set(found.tasks) == set(suite.Suite().tasks)


def test_every_key_of_a_suite_is_in_the_docs() -> None:
    from mixture.monitor import suite

    page = (ROOT / "docs" / "monitor.md").read_text()
    schema = suite.json_schema()
    keys = {key for part in [schema, *schema["$defs"].values()] for key in part.get("properties", {})}
    assert not {key for key in keys if not re.search(rf"\b{key}\b", page)}


def test_the_published_schema_is_the_training_config_s() -> None:
    published = json.loads((ROOT / "manifests" / "train.schema.json").read_text())
    assert published == json.loads(json.dumps(train_config.json_schema())), "write json_schema() of it again"


def test_ci_runs_the_commands_of_the_readme() -> None:
    readme, script = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    commands = re.findall(r'^\w+_command="(.*)"$', script, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert command in readme


def test_every_recipe_key_is_explained_in_the_docs() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text()
    schema = json_schema()
    keys = {key for part in [schema, *schema["$defs"].values()] for key in part["properties"]}
    assert not {key for key in keys if f"`{key}`" not in page}


def test_every_command_is_named_in_the_readme() -> None:
    from mixture.cli import app

    readme = (ROOT / "README.md").read_text()
    names = [command.name for command in app.registered_commands]
    assert len(names) == 18
    for name in names:
        assert f"mixture {name}" in readme


def test_recipes_and_configs_in_the_docs_are_what_they_seem() -> None:
    found = {"recipe": 0, "config": 0}
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for block in re.findall(r"```yaml\n(name:.*?)```", page.read_text(), re.DOTALL):
            kind = "config" if "\nlock:" in block else "recipe"
            (train_config.parse if kind == "config" else parse)(block, str(page))
            found[kind] += 1
    assert min(found.values()) >= 1


def test_every_key_of_a_training_config_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "training.md").read_text()
    schema = train_config.json_schema()
    keys = {key for part in [schema, *schema["$defs"].values()] for key in part.get("properties", {})}
    assert not {key for key in keys if not re.search(rf"\b{key}\b", page)}


def test_rooms_keep_to_their_ground() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or "lint-imports"
    done = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("mixture.cli", ("pyarrow", "numpy", "polars", "duckdb", "datasets", "pydantic", "torch", "rich.progress")),
        (
            "mixture.flow",
            ("torch", "datasets", "typer", "rich", "gigatoken", "sentencepiece", "tokenizers", "tiktoken"),
        ),
    ],
)
def test_importing_a_room_leaves_heavy_libraries_out(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_library_code_has_no_assert() -> None:
    found = [
        f"{path.name}:{number}"
        for path in Path(mixture.__file__).parent.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.strip().startswith("assert ")
    ]
    assert found == []
