"""A profile file: YAML in, a checked profile out, or one sentence that names the file, the line and the field."""

from __future__ import annotations

from mixture.errors import ProfileError
from mixture.profile import Profile
from mixture.storage import Place
from mixture.yamlfile import Form

FORM = Form(Profile, "profile", ProfileError, "pipelines/local.yaml is one")


def load(path: Place) -> Profile:
    """Read and check a profile file.

    Raises:
        ProfileError: missing, not YAML, or not a profile; names the line, the field, the value and what is allowed.
    """
    return FORM.load(path)


def parse(text: str, where: str = "profile") -> Profile:
    """Check a profile given as YAML text; see `load`."""
    return FORM.parse(text, where)
