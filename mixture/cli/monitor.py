"""`mixture monitor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixture.cli.common import Debug, Json, Watch, sentences, show
from mixture.cli.where import Asked, Data, On, Work

EXAMPLE = "Example:  mixture monitor runs/train-quickstart --suite manifests/monitor-quickstart.yaml"
STOPPED = "stopped; what was examined is kept: run the same command to go on"

Places = Annotated[
    list[Path] | None,
    typer.Argument(metavar="PLACE...", help="Models, checkpoints, or folders of runs.", show_default=False),
]
SuiteFile = Annotated[
    Path | None,
    typer.Option("--suite", "-s", metavar="FILE", help="What is measured.", show_default="fits the first model"),
]
Locks = Annotated[
    list[Path] | None,
    typer.Option("--lock", metavar="FILE", help="What it was trained on.", show_default="the run's"),
]
Texts = Annotated[
    list[Path] | None,
    typer.Option("--text", "-t", metavar="FILE", help="Text it has not seen.", show_default="what the lock held out"),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Where results go.", show_default="in the run's folder: monitor"),
]
Levels = Annotated[
    str, typer.Option("--levels", metavar="A,B", help="Only these of behaviour, probability, mechanism.")
]
TokenizerFile = Annotated[
    Path | None,
    typer.Option("--tokenizer", metavar="FILE", help="The model's tokenizer.", show_default="the one beside it"),
]
Harness = Annotated[
    list[Path] | None, typer.Option("--harness", metavar="FILE", help="Results of lm_eval, or a folder of them.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Wait for a run's next checkpoints, until it ends.")]
Page = Annotated[bool, typer.Option("--page/--no-page", help="Draw pictures and a page.")]
Pairs = Annotated[
    Path | None,
    typer.Option("--coverage", metavar="PAIRS", help="Facts to count in the mixture: subject and object a line."),
]


def command(
    places: Places = None,
    suite: SuiteFile = None,
    lock: Locks = None,
    text: Texts = None,
    out: Out = None,
    levels: Levels = "",
    tokenizer: TokenizerFile = None,
    harness: Harness = None,
    follow: Follow = False,
    page: Page = True,
    coverage: Pairs = None,
    on: On = None,
    work: Work = None,
    data: Data = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Examine checkpoints: what they answer, how probable the right answer is, and which heads find it."""
    if not (places or harness or coverage):
        raise typer.BadParameter("nothing to examine; give a model's folder, a checkpoint, or a run's folder")
    if follow and len(places or []) != 1:
        raise typer.BadParameter(f"--follow goes with one run's folder, {len(places or [])} were given")
    watch = Watch()
    with sentences(debug=debug, watch=watch, stopped=STOPPED):
        from mixture.cli.examination import Examination, usual_folder
        from mixture.storage import only_run

        folder = out or usual_folder(places or [], follow=follow)
        asked = Examination(folder, Asked(on, work, data).where(), lock or [], watch, page=page)
        with only_run(folder):
            if harness:
                asked.add_harness(harness)
            if places:
                asked.examine(places, suite, text or [], levels, tokenizer, follow=follow)
            if coverage is not None:
                asked.cover(coverage)
            told, pictures = asked.summary(as_json=as_json)
        show(as_json, told, *pictures)
