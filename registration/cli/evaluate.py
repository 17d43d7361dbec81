"""``registration evaluate``: figures for every pair of a table, and what they say together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .counting import counting
from .options import (
    Channel,
    FixedChannel,
    LabelChannel,
    MovingChannel,
    Overwrite,
    PairsTable,
    PointsSpace,
    Quiet,
    Spacing,
)

if TYPE_CHECKING:
    from ..batch.workers import Workers
    from ..evaluation.cohort import Judged
    from .judge_pair import JudgePair
    from .judge_pairs import Task

SOME_FAILED = 4
SEED = 0  # of the bootstrap
_WHERE = "Results of other programs"
_TOLD = 5
_Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the figures.", show_default=False)]
_Results = Annotated[
    Path | None, typer.Option("--results", "-r", help="Folder of `batch`: one folder per pair.", show_default=False)
]
_Transform = Annotated[
    list[str] | None,
    typer.Option(
        "--transform", "-t", metavar="PATH", help="Where {id} is the pair; several in a row as of apply.",
        rich_help_panel=_WHERE,
    ),
]  # fmt: skip
_Inverse = Annotated[
    list[str] | None,
    typer.Option("--inverse", metavar="PATH", help="moving -> fixed; likewise.", rich_help_panel=_WHERE),
]
_Warped = Annotated[
    str | None, typer.Option("--warped", metavar="PATH", help="On the fixed grid.", rich_help_panel=_WHERE)
]
_WarpedLabels = Annotated[
    str | None, typer.Option("--warped-labels", metavar="PATH", help="Likewise.", rich_help_panel=_WHERE)
]
_ResampleLabels = Annotated[
    bool, typer.Option("--resample-labels", help="Bring labels on another grid onto the fixed one, nearest voxel.")
]
_Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Processes; one per core if pairs are many.", show_default=False),
]
_Page = Annotated[bool, typer.Option("--report/--no-report", help="Also make report.html.")]


def evaluate(
    pairs: PairsTable,
    output: _Output,
    results: _Results = None,
    transform: _Transform = None,
    inverse: _Inverse = None,
    warped: _Warped = None,
    warped_labels: _WarpedLabels = None,
    resample_labels: _ResampleLabels = False,
    label_channel: LabelChannel = None,
    points_space: PointsSpace = None,
    channel: Channel = None,
    fixed_channel: FixedChannel = None,
    moving_channel: MovingChannel = None,
    spacing: Spacing = None,
    jobs: _Jobs = None,
    page: _Page = True,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> int:
    """Judge the result of every pair of PAIRS.CSV, made here or by any other program.

    OUTPUT receives metrics.csv, summary.json, cases.json, provenance.json and report.html. A pair that cannot be
    judged stands there with the reason and never stops the rest; the status is then 4.
    """
    from ..io.provenance import now
    from .judge_pair import JudgePair
    from .pair_work import HowToRead

    started = now()
    templates = {kind: texts for kind, texts in (("transform", transform), ("inverse", inverse)) if texts}
    templates |= {
        kind: [text] for kind, text in (("warped", warped), ("warped_labels", warped_labels)) if text is not None
    }
    tasks = _tasks(pairs, results, templates)
    reading = HowToRead.of(points_space, channel, spacing, label_channel, fixed_channel, moving_channel)
    judge = JudgePair(reading, resample_labels)
    return _Evaluation(pairs, tasks, judge, started, quiet)(output, overwrite, page, jobs)


def _tasks(pairs: Path, results: Path | None, templates: dict[str, list[str]]) -> list[Task]:
    """Every pair with where its result lies, in the order of the table."""
    from ..batch.table import read_pairs
    from ..evaluation.results import find_results

    rows = read_pairs(pairs)
    found = find_results(pairs, rows, results, templates)
    return [(row, found[row.id]) for row in rows]


@dataclass(frozen=True)
class _Evaluation:
    """An evaluation that can begin: the table, its pairs with their results, and what judges them."""

    pairs: Path
    tasks: Sequence[Task]
    judge: JudgePair
    started: datetime
    quiet: bool

    def __call__(self, output: Path, overwrite: bool, page: bool, jobs: int | None) -> int:
        """Judge, and write the folder, perhaps with its ``page``; the exit status."""
        from ..batch.workers import Workers
        from ..evaluation.cohort import OUTPUTS, write_cohort
        from .judge_pairs import default_jobs
        from .outputs import output_folder

        workers = Workers(min(jobs or default_jobs(len(self.tasks)), len(self.tasks)))
        with output_folder(output, overwrite, OUTPUTS) as folder, workers:
            cohort = _judged(self.judge, self.tasks, workers, self.quiet)
            summary = write_cohort(folder, cohort, Path(os.path.abspath(output)))
            _write_provenance(folder, self.pairs, cohort, self.started)
            whole = _make_page(folder, output, workers, self.quiet) if page else True
        _tell(output, summary, self.quiet)
        return SOME_FAILED if summary["failed"] else 0 if whole else 1


def _judged(judge: JudgePair, tasks: Sequence[Task], workers: Workers, quiet: bool) -> list[Judged]:
    """All pairs in the order of the table."""
    from .judge_pairs import judge_pairs

    cohort = {}
    with counting("pairs", len(tasks), quiet) as advance:
        for judged in judge_pairs(judge, tasks, workers):
            cohort[judged.id] = judged
            advance()
    return [cohort[row.id] for row, _ in tasks]


def _write_provenance(folder: Path, pairs: Path, cohort: Sequence[Judged], started: datetime) -> None:
    from ..io.files import sha256
    from ..io.provenance import FILE, provenance, write_provenance
    from .arguments import given

    inputs: dict[str, Any] = {"pairs": {"path": os.path.abspath(pairs), "sha256": sha256(pairs)}}
    for judged in cohort:
        named = {role: {"path": path, "sha256": judged.hashes.get(role)} for role, path in judged.files.items()}
        inputs[judged.id] = named
    write_provenance(folder / FILE, provenance(given.get(), started, {"seed": SEED, "inputs": inputs}))


def _make_page(folder: Path, output: Path, workers: Workers, quiet: bool) -> bool:
    """Whether ``report.html`` could be made in ``folder``, which will be ``output``; the figures are there anyhow."""
    from ..evaluation.report import in_threads, write_report

    def tracked(cases: Sequence[Any]) -> Iterator[Any]:
        with counting("report", len(cases), quiet) as advance:
            for case in cases:
                yield case
                advance()

    try:
        # The processes that judged the pairs have loaded all that their pictures need.
        each = workers.in_order if workers.count > 1 else in_threads
        write_report(folder, None, tracked, Path(os.path.abspath(output)).name, each)
    except Exception as error:
        from ..batch.attempt import one_line

        typer.echo(
            f"registration: no report.html: {one_line(error)}; try `registration report` on the folder", err=True
        )
        return False
    return True


def _tell(output: Path, summary: dict[str, Any], quiet: bool) -> None:
    if not quiet:
        from .figure_tables import print_summary

        print_summary(summary)
        typer.echo(f"results in {output}")
    failed = summary["failed"]
    if failed:
        first = "; ".join(f"{pair['id']}: {pair['error']}" for pair in failed[:_TOLD])
        more = f" and {len(failed) - _TOLD} more, see {output / 'summary.json'}" if len(failed) > _TOLD else ""
        count = f"{len(failed)} of {summary['counts']['pairs']} pairs have no figures"
        typer.echo(f"registration: {count}: {first}{more}", err=True)
