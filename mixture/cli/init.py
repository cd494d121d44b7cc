"""`mixture init`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixture.cli.common import Debug, Json, RecipePath, sentences, show
from mixture.cli.where import Data

if TYPE_CHECKING:
    from mixture.scaffold.sources import NamedPaths

EXAMPLE = (
    "Example:  mixture init manifests/mine.yaml --source books='corpus/books-*.jsonl.zst' "
    "--source peps=corpus/peps.parquet --train-tokenizer; or --preset fu-per-source"
)
_BUDGET = "20M"


def _list_presets(wanted: bool) -> None:
    if not wanted:
        return
    from rich.table import Table

    from mixture.presets import PRESETS

    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("preset", no_wrap=True)
    table.add_column("arXiv", no_wrap=True)
    table.add_column("what it does")
    for preset in PRESETS.values():
        table.add_row(preset.name, preset.arxiv, preset.summary)
    show(False, {}, table)
    raise typer.Exit


def command(
    recipe: RecipePath,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            "-s",
            metavar="NAME=GLOB",
            help="A corpus, its name also its domain; may be given again.",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="A published mixture; see --list-presets.")
    ] = None,
    domains: Annotated[
        list[str] | None,
        typer.Option(
            "--domains",
            metavar="ITS=YOURS",
            help="Which of your domains plays the preset's; may be given again. Equal names need none.",
        ),
    ] = None,
    _list: Annotated[
        bool,
        typer.Option("--list-presets", callback=_list_presets, is_eager=True, help="Show the presets, and no more."),
    ] = False,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", metavar="FILE", help="Vocabulary: .tiktoken, .model or tokenizer.json."),
    ] = None,
    train_tokenizer: Annotated[
        bool,
        typer.Option("--train-tokenizer", help="Train a SentencePiece model on a sample of the sources."),
    ] = False,
    vocabulary: Annotated[int, typer.Option("--vocab-size", min=300, help="Size of the trained vocabulary.")] = 8192,
    sample: Annotated[str, typer.Option("--sample", help="Bytes of text to train on.")] = "20M",
    budget: Annotated[
        str | None, typer.Option("--budget", help="Tokens to write.", show_default=f"{_BUDGET}, or the preset's")
    ] = None,
    data: Data = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe that is there.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a commented recipe to start from: the quick start, one over --source, or a published one by --preset."""
    with sentences(debug=debug):
        from mixture import scaffold
        from mixture.recipe.quantities import tokens

        sources = [_named(text) for text in source or ()]
        try:
            sample_bytes = tokens(sample)
        except ValueError as error:
            raise typer.BadParameter(f"--sample: {error}") from error
        if train_tokenizer and not sources:
            raise typer.BadParameter("--train-tokenizer takes its sample from --source NAME=GLOB; give one")
        if tokenizer and not (sources or preset):
            raise typer.BadParameter("a tokenizer goes with --source NAME=GLOB; the quick start uses bytes")
        if domains and not preset:
            raise typer.BadParameter("--domains goes with --preset NAME")
        name = scaffold.recipe_name(recipe)
        model = f"tokenizers/{name}.model" if train_tokenizer else tokenizer
        spec = f"{{kind: {_kind(model)}, path: {json.dumps(model)}}}" if model else ""
        said: list[str] = []
        if preset:
            text, said = _from_preset(preset, name, sources, spec, domains or [], budget)
        elif sources:
            text = scaffold.from_sources(name, sources, spec or "{kind: bytes}", budget or _BUDGET)
        else:
            text = scaffold.quickstart(name)
        scaffold.check(recipe, text, replace=force)
        if train_tokenizer:
            from mixture.scaffold.training import train_tokenizer as train

            root = Path(data or "").absolute()
            train(sources, root, root / str(model), vocabulary=vocabulary, sample_bytes=sample_bytes)
        made = scaffold.write(recipe, text, replace=force)
        summary = {
            "recipe": str(recipe),
            "name": made.name,
            "preset": preset,
            "tokenizer": made.tokenizer.model_dump(exclude_none=True),
            "notices": said,
        }
        if preset and not sources:
            next_step = f"next: point its sources at your files, then mixture run {recipe}"
        else:
            next_step = f"next: mixture run {recipe}"
        show(as_json, summary, f"recipe in {recipe}", *said, next_step)


def _from_preset(
    preset: str, name: str, sources: list["NamedPaths"], spec: str, domains: list[str], budget: str | None
) -> tuple[str, list[str]]:
    from mixture import presets
    from mixture.presets.domains import read_pairs
    from mixture.scaffold.preset import from_preset, notices

    try:
        pairs = read_pairs(domains)
    except ValueError as error:
        raise typer.BadParameter(f"--domains: {error}") from error
    found = presets.find(preset)
    text = from_preset(found, name, sources=sources, tokenizer=spec, pairs=pairs, budget=budget)
    return text, notices(found, sources, spec, pairs)


def _named(text: str) -> "NamedPaths":
    from mixture.scaffold.sources import NamedPaths

    name, equals, pattern = text.partition("=")
    if not (name and equals and pattern):
        raise typer.BadParameter(f"{text!r} is not NAME=GLOB, for example books=corpus/books-*.jsonl.zst")
    return NamedPaths(name, pattern)


def _kind(path: str | None) -> str:
    suffixes = {".tiktoken": "tiktoken", ".model": "sentencepiece", ".json": "huggingface"}
    return suffixes.get(Path(path or "").suffix, "huggingface")
