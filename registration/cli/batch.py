"""``registration batch``: register every pair of a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import given
from .method import Method, settings_of
from .options import (
    Channel,
    Checkpoint,
    Device,
    FixedChannel,
    FixedWindow,
    Initial,
    LabelChannel,
    LabelInterpolation,
    Loss,
    MovingChannel,
    MovingWindow,
    Overrides,
    PairsTable,
    PointsSpace,
    Preset,
    Quiet,
    Refine,
    Seed,
    Spacing,
    Transform,
    Window,
)
from .windows import windows_named

if TYPE_CHECKING:
    from ..batch.folders import RunFolder
    from ..batch.record import Record
    from ..batch.run import Plan, Runner
    from ..batch.table import PairRow
    from .pair_work import HowToRead, RegisterPair

SOME_FAILED = 4
SOME_KEPT_INITIAL = 3
_RUN = "How it runs"
_Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the run, one folder per pair.", show_default=False)
]
_Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1, rich_help_panel=_RUN, show_default=False,
        help="Processes on this computer; one per core, as long as each has 4 GiB of memory.",
    ),
]  # fmt: skip
_Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler", metavar="ADDRESS", rich_help_panel=_RUN,
        help="Dask scheduler to use instead, tcp://... or its file (.json).",
    ),
]  # fmt: skip
_Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", rich_help_panel=_RUN, help="Do pairs again whose inputs or settings have changed."),
]
_Bids = Annotated[
    bool, typer.Option("--bids-derivatives", rich_help_panel=_RUN, help="Results under names of BIDS as well.")
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", rich_help_panel=_RUN, help="Say what would be done, and do nothing.")
]


def batch(
    pairs: PairsTable,
    output: _Output,
    transform: Transform = None,
    preset: Preset = None,
    loss: Loss = None,
    initial: Initial = None,
    checkpoint: Checkpoint = None,
    refine: Refine = None,
    channel: Channel = None,
    fixed_channel: FixedChannel = None,
    moving_channel: MovingChannel = None,
    window: Window = None,
    fixed_window: FixedWindow = None,
    moving_window: MovingWindow = None,
    spacing: Spacing = None,
    label_channel: LabelChannel = None,
    label_interpolation: LabelInterpolation = None,
    points_space: PointsSpace = None,
    seed: Seed = None,
    device: Device = None,
    jobs: _Jobs = None,
    scheduler: _Scheduler = None,
    overwrite: _Overwrite = False,
    bids_derivatives: _Bids = False,
    dry_run: _DryRun = False,
    quiet: Quiet = False,
    overrides: Overrides = None,
) -> int:
    """Register every pair of PAIRS.CSV.

    OUTPUT receives a folder per pair with what `register` writes, and batch.csv with a row per finished pair. The same
    command again does only what is missing or failed. Status 4 if a pair failed, 3 if one kept its start.
    """
    from ..batch.folders import RunFolder
    from ..batch.table import check_partners, read_pairs
    from .pair_work import HowToRead

    rows = read_pairs(pairs)
    check_partners(pairs, rows)
    method = Method(transform, preset, loss, initial, checkpoint, refine, label_interpolation, seed, device, overrides)
    reading = HowToRead.of(points_space, channel, spacing, label_channel, fixed_channel, moving_channel)
    reading = replace(reading, **windows_named(window, fixed_window, moving_window))
    work = _work(rows, method, reading)
    run = _Run(pairs, rows, RunFolder(output), work, _workers(jobs, scheduler), bids_derivatives, quiet)
    planned = run.planned(overwrite)
    if dry_run:
        _show_plan(rows, planned)
        return 0
    planned.refuse_outdated(run.folder)
    return run(planned)


def _work(rows: Sequence[PairRow], method: Method, reading: HowToRead) -> RegisterPair:
    """What is done with every pair.

    Raises
    ------
    InputError
        If an option, a setting or a file that all pairs share cannot be used, or label volumes are not there.
    """
    from .label_channels import check_label_channels
    from .pair_work import register_pair

    check_label_channels(rows, reading)
    words, start = method.chosen()
    settings = settings_of(words)
    if method.overrides:  # told once, not by every pair
        from .usable import check_settings

        check_settings(settings)
    return register_pair(settings, words, reading, start, given.get())


def _workers(jobs: int | None, scheduler: str | None) -> Runner:
    from ..batch.cluster import Cluster
    from ..batch.workers import Processes
    from ..errors import InputError

    if scheduler is None:
        return Processes(jobs)
    if jobs is not None:
        raise InputError("--jobs and --scheduler", "exclude each other", "a scheduler has the workers it was given")
    return Cluster(scheduler)


@dataclass(frozen=True)
class _Run:
    """A batch that can begin: its table and what that held, where results go, what is done and by whom, and how it is
    told."""

    pairs: Path
    rows: Sequence[PairRow]
    folder: RunFolder
    work: RegisterPair
    workers: Runner
    bids: bool
    quiet: bool

    def planned(self, overwrite: bool) -> Plan:
        """What there is to do.

        Raises
        ------
        InputError
            If the folder is somebody else's, or names in the dataset would coincide.
        """
        from ..batch.run import plan

        self.folder.check(self.rows)
        if self.bids:
            from ..batch.bids import dataset_names

            dataset_names(self.rows)  # refuses names that coincide before anything starts
        return plan(self.folder, self.rows, self.work.settings, overwrite)

    def __call__(self, planned: Plan) -> int:
        """Do what is planned; the exit status."""
        from ..batch.record import Status
        from ..batch.run import DiskFull
        from .batch_progress import summary

        try:
            records = self._records(planned)
        except DiskFull as error:
            typer.echo(f"registration: {error}", err=True)
            return SOME_FAILED
        counts = Counter(record.status for record in records.values())
        summary(self.folder.path, records, self.quiet)
        return SOME_FAILED if counts[Status.FAILED] else SOME_KEPT_INITIAL if counts[Status.KEPT_INITIAL] else 0

    def _records(self, planned: Plan) -> Mapping[str, Record]:
        """The records of all pairs, when what is planned is done and everything is written."""
        from ..batch.run import run_batch
        from ..io.provenance import FILE, now, write_provenance
        from .batch_progress import telling

        started, place = now(), self.folder.path / FILE
        with self.folder.opened():
            write_provenance(place, self._told(started, {}))
            with telling(self.quiet, len(self.rows), len(planned.finished)) as watch:
                records = run_batch(self.folder, self.rows, planned, self.work, self.workers, watch)
            if self.bids:
                from ..batch.bids import write_dataset

                write_dataset(self.folder, self.rows, records)
            write_provenance(place, self._told(started, records))
        return records

    def _told(self, started: datetime, records: Mapping[str, Record]) -> dict[str, Any]:
        """Where the results come from."""
        from ..io.files import sha256
        from ..io.links import roles
        from ..io.provenance import provenance

        settings = self.work.configuration
        starts = {name: link.file for name, link in roles("initial", self.work.initial).items()}
        files = {"pairs": self.pairs, **starts, "checkpoint": settings.get("checkpoint")}
        inputs = {role: {"path": os.path.abspath(path), "sha256": sha256(path)} for role, path in files.items() if path}
        facts = {
            "finished": bool(records),
            "seed": settings.get("seed"),
            "inputs": inputs,
            "pairs": dict(Counter(record.status.value for record in records.values())),
            "settings": settings,
        }
        return provenance(self.work.arguments, started, facts)


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
