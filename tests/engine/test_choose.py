"""A profile names an engine; what it needs is imported then, and what is not there is one sentence."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from mixture.engine.choose import engine_for
from mixture.engine.local import Local
from mixture.errors import EngineError
from mixture.profile import Profile


def test_the_local_engine_has_the_profile_s_workers_and_tries(tmp_path: Path) -> None:
    engine = engine_for(Profile.model_validate({"workers": 3, "resources": {"retries": 4}}), tmp_path, print)
    assert isinstance(engine, Local)
    assert (engine.workers, engine.tries) == (3, 5)
    usual = engine_for(Profile(), tmp_path, print)
    assert isinstance(usual, Local)
    assert (usual.workers, usual.tries) == (1, 3)


@pytest.mark.parametrize(("engine", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_whose_package_is_missing_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, package: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == package else real(name, *more))
    profile = Profile.model_validate({"engine": engine, "dask": {"address": "tcp://127.0.0.1:1"}})
    with pytest.raises(EngineError, match=rf"package {package}, .* pip install 'mixture\[{engine}\]'"):
        engine_for(profile, tmp_path, print)


def test_nobody_pays_for_an_engine_that_was_not_chosen() -> None:
    code = (
        "import sys; from pathlib import Path; from mixture.engine.choose import engine_for; "
        "from mixture.profile import Profile; engine_for(Profile(), Path(), print); "
        "print([m for m in ('distributed', 'ray', 'mixture.engine.slurm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
