"""`mixture diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixture.cli.common import CORES, DATA, WORK, Data, Debug, Json, Watch, Work, Workers, sentences, show

EXAMPLE = "Example:  mixture diff manifests/quickstart.yaml manifests/mine.lock.json"


def command(
    a: Annotated[Path, typer.Argument(metavar="A", help="A recipe or a lock.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another.", show_default=False)],
    work: Work = WORK,
    data: Data = DATA,
    workers: Workers = CORES,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare two mixtures: rules, shares, epochs, unique tokens, documents gained and lost. Reads no token."""
    watch = Watch()
    with sentences(debug=debug, watch=watch):
        from mixture.engine.local import Local
        from mixture.flow import compare
        from mixture.report.changes import document_table, rule_changes, share_table
        from mixture.storage import only_run
        from mixture.workspace import Workspace

        place = Workspace(work.absolute(), data.absolute())
        with Local(workers) as engine, only_run(place.work):
            found = compare(a, b, place, engine, watch)
        pictures = [rule_changes(found.rules), share_table(*found.names, *found.locks)]
        pictures.append(document_table(found) if found.documents is not None else found.unknown)
        show(as_json, found.to_json(), *pictures)
