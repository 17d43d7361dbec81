"""``registration batch``: register every pair of a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import given
from .options import (
    Channel,
    Checkpoint,
    Device,
    Initial,
    LabelChannel,
    LabelInterpolation,
    Loss,
    Overrides,
    PointsSpace,
    Preset,
    Quiet,
    Refine,
    Seed,
    Spacing,
    Transform,
)

if TYPE_CHECKING:
    from ..batch.folders import RunFolder
    from ..batch.record import Record
    from ..batch.run import Plan, Workers
    from ..batch.table import PairRow
    from .pair_work import RegisterPair

SOME_FAILED = 4
SOME_KEPT_INITIAL = 3
_RUN = "How it runs"


def batch(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS.CSV", help="Columns id, fixed, moving; perhaps fixed_labels ...", show_default=False
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run, one folder per pair.", show_default=False)
    ],
    transform: Transform = None,
    preset: Preset = None,
    loss: Loss = None,
    initial: Initial = None,
    checkpoint: Checkpoint = None,
    refine: Refine = None,
    channel: Channel = None,
    spacing: Spacing = None,
    label_channel: LabelChannel = None,
    label_interpolation: LabelInterpolation = None,
    points_space: PointsSpace = None,
    seed: Seed = None,
    device: Device = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", min=1, rich_help_panel=_RUN, show_default=False,
            help="Processes on this computer; one per core, as long as each has 4 GiB of memory.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler", metavar="ADDRESS", rich_help_panel=_RUN,
            help="Dask scheduler to use instead, tcp://... or its file (.json).",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", rich_help_panel=_RUN, help="Do pairs again whose inputs or settings have changed."
        ),
    ] = False,
    bids_derivatives: Annotated[
        bool,
        typer.Option("--bids-derivatives", rich_help_panel=_RUN, help="Results under names of BIDS as well."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=_RUN, help="Say what would be done, and do nothing.")
    ] = False,
    quiet: Quiet = False,
    overrides: Overrides = None,
) -> int:  # fmt: skip
    """Register every pair of PAIRS.CSV.

    OUTPUT receives a folder per pair with what `register` writes, and batch.csv with a row per finished pair. The same
    command again does only what is missing or failed. Status 4 if a pair failed, 3 if one kept its start.
    """
    from ..batch.folders import RunFolder
    from ..batch.run import plan
    from ..batch.table import check_partners, read_pairs
    from .label_channels import check_label_channels
    from .pair_work import HowToRead, register_pair
    from .register import chosen, settings_of

    rows = read_pairs(pairs)
    check_partners(pairs, rows)
    named = {"transform": transform, "preset": preset, "loss": loss, "seed": seed, "device": device}
    named |= {"label_interpolation": label_interpolation}
    reading = HowToRead.of(points_space, channel, spacing, label_channel)
    check_label_channels(rows, reading)
    words, start = chosen(named, initial, checkpoint, refine)
    words = [*words, *(overrides or ())]
    work = register_pair(settings_of(words), words, reading, start, given.get())
    workers = _workers(jobs, scheduler)
    folder = RunFolder(output)
    folder.check(rows)
    if bids_derivatives:
        from ..batch.bids import dataset_names

        dataset_names(rows)  # refuses names that coincide before anything starts
    planned = plan(folder, rows, work.settings, overwrite)
    if dry_run:
        _show_plan(rows, planned)
        return 0
    planned.refuse_outdated(folder)
    return _run(folder, rows, planned, work, workers, _Manner(pairs, quiet, bids_derivatives))


@dataclass(frozen=True)
class _Manner:
    """How a run is told, and what is made of it besides."""

    pairs: Path
    quiet: bool
    bids: bool


def _workers(jobs: int | None, scheduler: str | None) -> Workers:
    from ..batch.cluster import Cluster
    from ..batch.workers import Processes
    from ..errors import InputError

    if scheduler is None:
        return Processes(jobs)
    if jobs is not None:
        raise InputError("--jobs and --scheduler", "exclude each other", "a scheduler has the workers it was given")
    return Cluster(scheduler)


def _run(
    folder: RunFolder, rows: Sequence[PairRow], planned: Plan, work: RegisterPair, workers: Workers, manner: _Manner
) -> int:
    from ..batch.record import Status
    from ..batch.run import DiskFull, run_batch
    from ..io.provenance import FILE, now, write_provenance
    from .batch_progress import summary, telling

    started = now()
    try:
        with folder.opened():
            write_provenance(folder.path / FILE, _told(manner, work, started, {}))
            with telling(manner.quiet, len(rows), len(planned.finished)) as watch:
                records = run_batch(folder, rows, planned, work, workers, watch)
            if manner.bids:
                from ..batch.bids import write_dataset

                write_dataset(folder, rows, records)
            write_provenance(folder.path / FILE, _told(manner, work, started, records))
    except DiskFull as error:
        typer.echo(f"registration: {error}", err=True)
        return SOME_FAILED
    counts = Counter(record.status for record in records.values())
    summary(folder.path, records, manner.quiet)
    return SOME_FAILED if counts[Status.FAILED] else SOME_KEPT_INITIAL if counts[Status.KEPT_INITIAL] else 0


def _told(manner: _Manner, work: RegisterPair, started: datetime, records: Mapping[str, Record]) -> dict[str, Any]:
    from ..io.files import sha256
    from ..io.provenance import provenance

    counts = Counter(record.status.value for record in records.values())
    files = {"pairs": manner.pairs, "initial": work.initial, "checkpoint": work.configuration.get("checkpoint")}
    facts = {
        "finished": bool(records),
        "seed": work.configuration.get("seed"),
        "inputs": {
            role: {"path": os.path.abspath(path), "sha256": sha256(path)} for role, path in files.items() if path
        },
        "pairs": dict(counts),
        "settings": work.configuration,
    }
    return provenance(work.arguments, started, facts)


def _show_plan(rows: Sequence[PairRow], planned: Plan) -> None:
    """A line per pair: what a run would do with it, and why."""
    todo = {row.id for row in planned.todo}
    for row in rows:
        if row.id in planned.outdated:
            what = f"refused without --overwrite: {planned.outdated[row.id]}"
        else:
            what = f"{row.moving.name} onto {row.fixed.name}" if row.id in todo else "is there already"
        typer.echo(f"{row.id}: {what}")
    typer.echo(f"{len(todo)} of {len(rows)} pairs to do")
