"""A recipe to start from: written, commented, and ready to run.

    sources     sources as the command line gives them
    training    a vocabulary trained on a sample of them
    preset      a published mixture as a recipe

Without sources it is the quick start: text that every machine with Python has. With sources, formats follow from the
files' suffixes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mixture.errors import RecipeError
from mixture.recipe import Recipe
from mixture.recipe.file import parse
from mixture.scaffold.sources import NamedPaths, block, quoted
from mixture.storage import publish

QUICKSTART_SOURCES = """\
  # The standard library's code. python:// is a root that every machine with Python has.
  - name: stdlib
    format: text                       # a whole file is one document
    paths: ["python://stdlib/**/*.py"]
    exclude: ["python://stdlib/**/site-packages/**/*.py", "python://stdlib/**/test*/**/*.py"]
    domain: library                    # one domain for the whole source
  # The code of some installed packages …
  - name: packages
    format: text
    paths: ["python://site-packages/numpy/**/*.py", "python://site-packages/pyarrow/**/*.py",
            "python://site-packages/datasets/**/*.py", "python://site-packages/polars/**/*.py"]
    exclude: ["python://site-packages/*/**/tests/**/*.py"]
    domain: packages
  # … their tests …
  - name: tests
    format: text
    paths: ["python://site-packages/numpy/**/tests/*.py", "python://site-packages/pyarrow/tests/*.py"]
    domain: tests
  # … and what all of them say of themselves.
  - name: docs
    format: text
    paths: ["python://site-packages/*.dist-info/METADATA", "python://site-packages/**/*.md"]
    domain: docs
"""
QUICKSTART_DOMAINS = """\
  domains:                             # shares of the budget; or: natural
    library: 0.4
    packages: 0.3
    tests: 0.25
    docs: {share: 0.05, lengths: natural}   # a domain may have a length rule and a cap of its own"""

_RECIPE = """\
# What is made; where it runs is said on the command line. Every key: docs/recipe.md.
# yaml-language-server: $schema=recipe.schema.json
name: {name}
description: {description}

tokenizer: {tokenizer}

sources:
{sources}
budget: {budget}                             # real tokens to write, separators included: M, B, T are decimal
sequence: {{length: {length}, separator: eos}} # lengths: K is 1024
buckets: [{buckets}]               # edges between length buckets

mix:
{domains}
  lengths: {{threshold: {threshold}, long: 0.7}} # documents from {threshold} tokens: 70 % of each domain at least
  max_epochs: 4                        # no document more often than this

holdout: 0.01                          # documents that no plan ever draws, the same for every seed
duplicates: keep-first                 # equal texts: the first stays
on_bad_row: {on_bad_row}                       # stop at a row without a text, or skip and count it
shard_tokens: {shard_tokens}
packing: concat
seed: 42
"""


def quickstart(name: str = "quickstart") -> str:
    """Return the quick start as recipe text: Python's own files, bytes as tokens, seconds to build."""
    return _RECIPE.format(
        name=name,
        description="Long files raised inside every domain of the text that comes with Python itself.",
        tokenizer="{kind: bytes}               # needs no download; others: tiktoken, sentencepiece, huggingface",
        sources=QUICKSTART_SOURCES,
        budget="6M",
        length="16K",
        buckets="4K, 16K, 64K",
        domains=QUICKSTART_DOMAINS,
        threshold="64K",
        on_bad_row="skip",
        shard_tokens="2M",
    )


def from_sources(name: str, sources: Sequence[NamedPaths], tokenizer: str, budget: str) -> str:
    """Return a recipe over given files, domains natural, one per source.

    Args:
        name: the recipe's.
        sources: at least one.
        tokenizer: the tokenizer as a YAML mapping.
        budget: as written by a person.
    """
    comment = "                  # or {field: meta.set}, or {path: '([^/]+)/'}"
    blocks = [block(source, quoted(source.name) + comment) for source in sources]
    return _RECIPE.format(
        name=name,
        description="made by mixture init",
        tokenizer=tokenizer,
        sources="".join(blocks),
        budget=budget,
        length="32K",
        buckets="4K, 16K, 64K",
        domains="  domains: natural                     # or a share for each: {books: 0.6, code: 0.4}",
        threshold="4K",
        on_bad_row="stop",
        shard_tokens="256M",
    )


def write(path: Path, text: str, *, replace: bool) -> Recipe:
    """Check a recipe's text and publish it.

    Raises:
        RecipeError: a file is there already, or what was given makes no recipe.
    """
    recipe = check(path, text, replace=replace)
    with publish(path) as out:
        out.write(text.encode())
    return recipe


def check(path: Path, text: str, *, replace: bool) -> Recipe:
    """Check a recipe's text and that it may be written there.

    Raises:
        RecipeError: a file is there already, or what was given makes no recipe.
    """
    if path.exists() and not replace:
        raise RecipeError(f"{path}: there is a file already; give another name, or --force to replace it")
    return parse(text, str(path))


def recipe_name(path: Path) -> str:
    """Return the name of a recipe in a file: the file's, less what names of folders are better without."""
    stem = path.name.removesuffix(".yaml").removesuffix(".yml")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-") or "recipe"
