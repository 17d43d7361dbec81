"""``registration report``: make the page of an evaluation anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Quiet


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="EVAL", help="The --output folder of registration evaluate.", show_default=False)
    ],
    size: Annotated[
        float | None,
        typer.Option(
            "--size", min=0.1, metavar="MB", help="Megabytes the page should stay within; 14 up to 100 pairs without."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Rebuild report.html in EVAL from its metrics.csv, summary.json and cases.json and the images they name."""
    from ..evaluation.report import write_report

    def tracked(cases: Sequence[Any]) -> Iterable[Any]:
        if quiet:
            return cases
        from rich.console import Console
        from rich.progress import track

        return track(cases, "report", console=Console(stderr=True), transient=True)

    page = write_report(folder, size, tracked)
    if not quiet:
        typer.echo(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
