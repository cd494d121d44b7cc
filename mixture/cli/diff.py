"""`mixture diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixture.cli.common import Debug, Json, Watch, sentences, show
from mixture.cli.where import Asked, Data, On, Work, Workers

EXAMPLE = "Example:  mixture diff manifests/quickstart.yaml manifests/mine.lock.json"


def command(
    a: Annotated[Path, typer.Argument(metavar="A", help="A recipe or a lock.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another.", show_default=False)],
    on: On = None,
    work: Work = None,
    data: Data = None,
    workers: Workers = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare two mixtures: rules, shares, epochs, unique tokens, documents gained and lost. Reads no token."""
    watch = Watch()
    with sentences(debug=debug, watch=watch):
        from mixture.flow import compare
        from mixture.report.changes import document_table, rule_changes, share_table
        from mixture.storage import only_run
        from mixture.workspace import Workspace

        where = Asked(on, work, data, workers).where()
        with only_run(where.work), where.engine(watch.say) as engine:
            found = compare(a, b, Workspace(where.work, where.data), engine, watch)
        pictures = [rule_changes(found.rules), share_table(*found.names, *found.locks)]
        pictures.append(document_table(found) if found.documents is not None else found.unknown)
        show(as_json, found.to_json(), *pictures)
