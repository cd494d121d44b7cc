"""`mixture init`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mixture.cli.common import DATA, Data, Debug, Json, RecipePath, sentences, show

EXAMPLE = (
    "Example:  mixture init manifests/mine.yaml --source books='corpus/books-*.jsonl.zst' "
    "--source peps=corpus/peps.parquet --train-tokenizer"
)


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
    budget: Annotated[str, typer.Option("--budget", help="Tokens to write.")] = "20M",
    data: Data = DATA,
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe that is there.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a commented recipe to start from; without --source it is the quick start."""
    with sentences(debug=debug):
        from mixture import scaffold
        from mixture.recipe import tokens

        given = [_named(text) for text in source or ()]
        try:
            sample_bytes = tokens(sample)
        except ValueError as error:
            raise typer.BadParameter(f"--sample: {error}") from error
        sources = [scaffold.NamedPaths(name, pattern) for name, pattern in given]
        name = scaffold.recipe_name(recipe)
        if not sources:
            if train_tokenizer or tokenizer:
                raise typer.BadParameter("a tokenizer goes with --source NAME=GLOB; the quick start uses bytes")
            made = scaffold.write(recipe, scaffold.quickstart(name), replace=force)
        else:
            model = f"tokenizers/{name}.model" if train_tokenizer else tokenizer
            spec = f"{{kind: {_kind(model)}, path: {json.dumps(model)}}}" if model else "{kind: bytes}"
            text = scaffold.from_sources(name, sources, spec, budget)
            scaffold.check(recipe, text, replace=force)
            if train_tokenizer:
                scaffold.train_tokenizer(
                    sources,
                    data.absolute(),
                    data / str(model),
                    vocabulary=vocabulary,
                    sample_bytes=sample_bytes,
                )
            made = scaffold.write(recipe, text, replace=force)
        summary = {
            "recipe": str(recipe),
            "name": made.name,
            "tokenizer": made.tokenizer.model_dump(exclude_none=True),
        }
        show(as_json, summary, f"recipe in {recipe}", f"next: mixture run {recipe}")


def _named(text: str) -> tuple[str, str]:
    name, equals, pattern = text.partition("=")
    if not (name and equals and pattern):
        raise typer.BadParameter(f"{text!r} is not NAME=GLOB, for example books=corpus/books-*.jsonl.zst")
    return name, pattern


def _kind(path: str | None) -> str:
    suffixes = {".tiktoken": "tiktoken", ".model": "sentencepiece", ".json": "huggingface"}
    return suffixes.get(Path(path or "").suffix, "huggingface")
