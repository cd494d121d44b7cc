"""`mixture trace`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixture.cli.common import Debug, Json, LockFile, Shards, named_lock, sentences, show
from mixture.cli.where import Asked, Data, On, Where, Work, place

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mixture.trace import Trace

EXAMPLE = "Example:  mixture trace manifests/quickstart.lock.json --sequence 41 --token 700"

Number = Annotated[int | None, typer.Option("--sequence", "-s", metavar="N", min=0, help="What stands in it.")]
Token = Annotated[
    int | None, typer.Option("--token", "-t", metavar="K", min=0, help="With --sequence: one place, and its text.")
]
Step = Annotated[
    int | None, typer.Option("--step", metavar="N", min=0, help="The documents of a global step; goes with --batch.")
]
Batch = Annotated[
    int | None, typer.Option("--batch", "-b", metavar="B", min=1, help="Sequences in a step, over all ranks.")
]
Doc = Annotated[
    str, typer.Option("--doc", "-d", metavar="ID", help="Where a document stands: its id, or 8 digits of it.")
]
File = Annotated[str, typer.Option("--file", "-f", metavar="F", help="The same by its input file, as in the lock …")]
InRow = Annotated[int | None, typer.Option("--row", "-r", metavar="R", min=0, help="… and its row, counted from 0.")]
Phase = Annotated[
    str, typer.Option("--phase", metavar="NAME", help="Which phase.", show_default="the only one, or all of them")
]


def command(
    lock: LockFile,
    sequence: Number = None,
    token: Token = None,
    step: Step = None,
    batch: Batch = None,
    doc: Doc = "",
    file: File = "",
    row: InRow = None,
    phase: Phase = "",
    shards: Shards = None,
    on: On = None,
    work: Work = None,
    data: Data = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """From a token to its document and source text, and from a document to every sequence and step it stands in."""
    _check(given={"--sequence": sequence, "--step": step, "--doc": doc or None, "--file": file or None})
    _check_pair("--token", token, "--sequence", sequence, both=False)
    _check_pair("--step", step, "--batch", batch, both=False)
    _check_pair("--row", row, "--file", file or None, both=True)
    with sentences(debug=debug):
        trace = _open(lock, phase, shards, Asked(on, work, data).where())
        if sequence is not None and token is not None:
            answer = trace.token(sequence, token)
        elif sequence is not None:
            answer = trace.sequence(sequence)
        elif step is not None:
            answer = trace.step(step, batch or 1)
        elif row is not None:
            answer = trace.file_row(file, row, batch)
        else:
            answer = trace.document(doc, batch)
        show(as_json, answer, *([] if as_json else _pictures(answer)))


def _check(given: dict[str, Any]) -> None:
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        what = " and ".join(named) if named else "nothing"
        raise typer.BadParameter(f"{what} asked for; give one of {', '.join(given)}")


def _check_pair(name: str, value: object, other: str, its: object, *, both: bool) -> None:
    if value is not None and its is None:
        raise typer.BadParameter(f"{name} goes with {other}")
    if both and its is not None and value is None:
        raise typer.BadParameter(f"{other} goes with {name}")


def _open(path: Path, phase: str, shards: str | None, where: Where) -> Trace:
    from mixture.errors import TraceError
    from mixture.trace import Trace
    from mixture.workspace import Workspace

    folder = None if shards is None else place(shards)
    if folder is not None and not folder.is_dir():
        raise TraceError(f"--shards {shards}: no such folder; check the name, or leave it out to ask the plan")
    return Trace(named_lock(path), Workspace(where.work, where.data), phase, folder)


def _pictures(answer: dict[str, Any]) -> list[RenderableType]:
    from mixture.report import trace as pictures

    if "read" in answer:
        return [pictures.read_sentences(answer), *(p for d in answer["documents"] for p in pictures.document(d))]
    if "origins" in answer:
        return pictures.document(answer)
    if "place" in answer:
        return pictures.token(answer)
    return pictures.step(answer) if "step" in answer else pictures.sequence(answer)
