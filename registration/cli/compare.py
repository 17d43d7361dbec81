"""``registration compare``: evaluations of the same pairs side by side."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Overwrite, Quiet

if TYPE_CHECKING:
    from ..evaluation.compare import Comparison
    from ..evaluation.report.folder import Evaluation

OUTPUTS = ("comparison.csv", "comparison.json", "comparison.png", "comparison.svg", "provenance.json")
_LISTED = 8


def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="EVAL_A EVAL_B ...", help="Folders of `evaluate`.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the comparison.", show_default=False)],
    names: Annotated[
        str | None, typer.Option("--names", metavar="A,B,...", help="What to call the runs; their folders without.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="NAME,...", help="Which to compare: fewer make the correction milder."),
    ] = None,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Also every label by itself.")] = True,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Compare two or more evaluations, pair by pair.

    For every metric and label: the median difference with its interval, the Wilcoxon signed-rank test with Holm's
    correction, and the rank-biserial effect. OUTPUT receives comparison.csv, .json, .png and .svg.
    """
    from ..evaluation.compare import compare as compared
    from ..evaluation.comparison_plot import write_comparison_plot
    from ..io.provenance import now
    from .outputs import output_folder

    started = now()
    runs = _runs(folders, names)
    wanted = None if metrics is None else _metrics(metrics, runs)
    comparison = compared(runs, wanted, labels)
    with output_folder(output, overwrite, OUTPUTS) as folder:
        _write(folder, comparison)
        write_comparison_plot([folder / "comparison.png", folder / "comparison.svg"], comparison)
        _write_provenance(folder, runs, started)
    _tell(comparison, output, quiet)


def _runs(folders: Sequence[Path], names: str | None) -> dict[str, Evaluation]:
    """Name -> evaluation."""
    from ..errors import InputError
    from ..evaluation.report.folder import read_evaluation

    if len(folders) < 2:
        raise InputError("compare", f"takes two or more evaluations, got {len(folders)}")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("compare", "one evaluation is given twice", "give different ones")
    called = [folder.resolve().name for folder in folders]
    if names is not None:
        called = [name.strip() for name in names.split(",")]
        if len(called) != len(folders) or not all(called) or len(set(called)) < len(called):
            raise InputError(f"--names {names}", f"{len(folders)} different names were expected, parted by commas")
    elif len(set(called)) < len(called):
        called = [str(folder) for folder in folders]
    return {name: read_evaluation(folder) for name, folder in zip(called, folders, strict=True)}


def _metrics(text: str, runs: dict[str, Evaluation]) -> list[str]:
    from .settings import choose

    known = list(dict.fromkeys(row.metric for run in runs.values() for row in run.rows))
    return [choose("--metrics ", name.strip(), known) for name in text.split(",")]


def _write(folder: Path, comparison: Comparison) -> None:
    from ..io.files import atomic_path

    told = comparison.described()
    with atomic_path(folder / "comparison.json") as temporary:
        temporary.write_text(json.dumps(told, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with (
        atomic_path(folder / "comparison.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        columns = list(told["differences"][0]) if told["differences"] else ["metric", "label", "first", "second"]
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(told["differences"])


def _write_provenance(folder: Path, runs: dict[str, Evaluation], started: datetime) -> None:
    from ..evaluation.report.folder import METRICS
    from ..io.files import sha256
    from ..io.provenance import FILE, provenance, write_provenance
    from .arguments import given

    files = {name: (run.folder / METRICS).resolve() for name, run in runs.items()}
    inputs = {name: {"path": str(file), "sha256": sha256(file)} for name, file in files.items()}
    write_provenance(folder / FILE, provenance(given.get(), started, {"seed": 0, "inputs": inputs}))


def _tell(comparison: Comparison, output: Path, quiet: bool) -> None:
    remarks = list(comparison.notices)
    for name, pairs in comparison.only.items():
        if pairs:
            more = f" and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
            remarks.append(f"not in all runs, of {name}: {', '.join(pairs[:_LISTED])}{more}")
    if not comparison.differences:
        remarks.append("the runs have no figure of the same pair in common")
    for text in remarks:
        typer.echo(f"note: {text}", err=True)
    if not quiet:
        from .comparison_tables import print_comparison

        print_comparison(comparison)
        typer.echo(f"results in {output}")
