"""The command line. Each command is a thin coat: parse, call one library function, print one summary.

Exit codes: 0; 1 for an error of ours, one sentence on stderr; 2 for wrong usage; 130 after Ctrl-C.
"""

from __future__ import annotations

import typer

from mixture.cli import (
    bucket,
    cancel,
    decontaminate,
    diff,
    export,
    init,
    monitor,
    pack,
    plan,
    report,
    reproduce,
    run,
    score,
    status,
    tokenize,
    trace,
    train,
    verify,
)

app = typer.Typer(
    name="mixture",
    help="Turn corpora into token streams with a designed mix of domains and document lengths, exact to the token.",
    epilog="Start with:  mixture run manifests/quickstart.yaml",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from mixture import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Hold the options of the program as a whole."""


for module in (
    run,
    tokenize,
    bucket,
    score,
    decontaminate,
    plan,
    pack,
    verify,
    reproduce,
    trace,
    train,
    monitor,
    report,
    diff,
    export,
    init,
    status,
    cancel,
):
    app.command(name=module.__name__.rpartition(".")[2], epilog=module.EXAMPLE)(module.command)


def main() -> None:
    """Run the program."""
    app()
