"""Where the result of every pair lies: in the folder of a batch, or wherever another program has put it."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..batch.record import Record
from ..batch.table import PairRow, read_columns
from ..errors import InputError
from ..io.links import Link, roles

KINDS = ("transform", "inverse", "warped", "warped_labels")
_ROWS = ("transform", "inverse")  # of which several files may make one
_MOST = 9
# A displacement field is a transform; the column may be called so.
_COLUMNS = (*KINDS, "field", *(f"{kind}_{n}" for kind in _ROWS for n in range(2, _MOST + 1)), "seconds")
_NAMES = {
    "transform": "transform.h5",
    "inverse": "transform_inverse.h5",
    "warped": "warped.nii.gz",
    "warped_labels": "warped_labels.nii.gz",
}
_METRICS = "metrics.json"
_AGAIN = "run batch again, which keeps what is there and writes this table anew"


@dataclass(frozen=True)
class ResultFiles:
    """What a program left of one pair.

    Parameters
    ----------
    transform, inverse
        Fixed -> moving, and the other way: files as :func:`registration.io.links.read_links` takes them.
    warped, warped_labels
        Moving image and labels on the fixed grid.
    seconds
        What the registration took.
    status
        As ``batch.csv`` tells it: done, kept-initial or failed.
    error
        Why there is nothing, in one line.
    label_interpolation
        How the run says that labels were warped: nearest or label.
    """

    transform: tuple[Link, ...] = ()
    inverse: tuple[Link, ...] = ()
    warped: Path | None = None
    warped_labels: Path | None = None
    seconds: float | None = None
    status: str = "done"
    error: str = ""
    label_interpolation: str = "nearest"

    def named(self) -> dict[str, Link]:
        """All files that are named, by role; ``transform_2`` is the second of a row."""
        images = {kind: Link(path) for kind in KINDS[2:] if (path := getattr(self, kind)) is not None}
        return {**roles("transform", self.transform), **roles("inverse", self.inverse), **images}


def find_results(
    table: Path, rows: Sequence[PairRow], run: Path | None, templates: Mapping[str, Sequence[str]]
) -> dict[str, ResultFiles]:
    """The results of all pairs, by id.

    A template wins over a column of the table, and that over the folder of the run.

    Parameters
    ----------
    table
        The table of pairs, whose further columns ``transform`` (or ``field``), ``inverse``, ``warped``,
        ``warped_labels`` and ``seconds`` are looked at; ``transform_2`` and so on of several in a row.
    run
        Folder of ``registration batch``, or any with ``<id>/transform.h5`` and the like.
    templates
        ``transform``, ``inverse``, ``warped``, ``warped_labels`` -> paths in which ``{id}`` stands for the pair.

    Raises
    ------
    InputError
        If nothing says where results are, the run is no folder, or a template has no ``{id}``. A pair without result
        is no error here: its ``error`` says so.
    """
    cells = read_columns(table, _COLUMNS)
    if run is None and not templates and not any(cells.values()):
        raise InputError(
            table, "nothing says where the results are",
            "give --results, a column transform or warped_labels, or --transform and the like with {id}",
        )  # fmt: skip
    if run is not None and not run.is_dir():
        raise InputError(run, "there is no such folder", "give the --output folder of registration batch")
    for kind, texts in templates.items():
        if not any("{id}" in text for text in texts):
            raise InputError(f"--{kind.replace('_', '-')} {texts[0]}", "has no {id}, which stands for the pair")
    run = None if run is None else Path(os.path.abspath(run))
    told = {} if run is None else _batch(run)
    result = {}
    for row in rows:
        found = told.get(row.id, ResultFiles()) if run is None else _folder(run / row.id, told.get(row.id))
        given = {kind: [text.replace("{id}", row.id) for text in texts] for kind, texts in templates.items()}
        named = {role: text for kind, texts in given.items() for role, text in roles(kind, texts).items()}
        own = {role: cell for role, cell in cells.get(row.id, {}).items() if _kind(role) not in given}
        result[row.id] = _checked(_named(table, found, {**own, **named}, set(named)))
    return result


def _kind(role: str) -> str:
    """``transform_2`` and ``field`` are a transform."""
    kind = role.rstrip("0123456789").removesuffix("_")
    return "transform" if kind == "field" else kind


def _named(table: Path, found: ResultFiles, cells: Mapping[str, str], relative: set[str]) -> ResultFiles:
    """The result with the files that cells name: those of the table are relative to it, those of templates not.

    Where they name a transform, nothing else of the run is about it.
    """
    if {"transform", "field"} & cells.keys():
        found = ResultFiles()
    files = [role for role in cells if role != "seconds"]
    links = {role: _placed(cells[role], Path() if role in relative else table.parent) for role in files}
    if "field" in links:
        links["transform"] = links.pop("field")
    named: dict[str, Any] = {kind: links[kind].file for kind in KINDS[2:] if kind in links}
    named |= {kind: tuple(row) for kind in _ROWS if (row := _in_a_row(table, kind, links))}
    if named:
        # What is named here is there whatever the folder of the run lacks.
        found = replace(found, error="", status="done" if found.error else found.status, **named)
    if "warped_labels" in cells:  # not those of the run
        found = replace(found, label_interpolation=ResultFiles.label_interpolation)
    if "seconds" in cells:
        try:
            seconds = float(cells["seconds"])
            # NaN is how pandas writes what is not there.
            found = replace(found, seconds=seconds if math.isfinite(seconds) else None)
        except ValueError:
            raise InputError(table, f"the column seconds holds {cells['seconds']!r}, a number was expected") from None
    return found


def _placed(cell: str, folder: Path) -> Link:
    link = Link.of(cell)
    return replace(link, file=Path(os.path.abspath(folder / link.file.expanduser())))


def _in_a_row(table: Path, kind: str, links: Mapping[str, Link]) -> list[Link]:
    """The links of a kind in their order."""
    named = [role for role in links if _kind(role) == kind]
    row = [links[role] for role in roles(kind, named) if role in links]
    if len(row) < len(named):
        raise InputError(table, f"{sorted(named)[-1]} is named without those before it", f"begin with {kind}")
    return row


def _checked(found: ResultFiles) -> ResultFiles:
    if found.error:
        return found
    given = found.named()
    if not {_kind(role) for role in given} - {"inverse"}:
        return replace(found, status="failed", error="there is no result: neither a transform nor a warped image")
    missing = [str(link.file) for link in given.values() if not link.file.exists()]
    if missing:
        return replace(found, status="failed", error=f"{', '.join(missing)}: there is no such file")
    return found


def _folder(folder: Path, told: ResultFiles | None) -> ResultFiles:
    """What lies in the folder of a pair."""
    told = _recorded(folder) or told
    if told is not None and told.status == "failed":
        return told
    if not folder.is_dir():
        return ResultFiles(status="failed", error=f"{folder}: there is no such folder, the pair was not registered")
    files: dict[str, Any] = {kind: folder / name for kind, name in _NAMES.items() if (folder / name).exists()}
    if not files.keys() - {"inverse"}:
        names = " nor ".join(_NAMES[kind] for kind in ("transform", "warped", "warped_labels"))
        return ResultFiles(status="failed", error=f"{folder}: holds neither {names}")
    files |= {kind: (Link(files[kind]),) for kind in _ROWS if kind in files}
    return replace(told or ResultFiles(), **files, label_interpolation=_interpolation(folder / _METRICS))


def _recorded(folder: Path) -> ResultFiles | None:
    """What batch has written into the folder of a pair, whose row a later and shorter table may not have had."""
    record = Record.read(folder)
    return None if record is None else _told(record.seconds, record.status.value, record.error)


def _told(seconds: float, status: str, why: str) -> ResultFiles:
    known = seconds if math.isfinite(seconds) else None
    error = f"the registration failed: {why or 'no word why'}" if status == "failed" else ""
    return ResultFiles(seconds=known, status=status, error=error)


def _interpolation(metrics: Path) -> str:
    """How a run warped labels, as its figures say; nearest voxel where they do not."""
    try:
        told = json.loads(metrics.read_text(encoding="utf-8")).get("label_interpolation")
    except (OSError, ValueError, AttributeError):
        told = None
    return told if isinstance(told, str) else ResultFiles.label_interpolation


def _batch(run: Path) -> dict[str, ResultFiles]:
    """Status, seconds and errors of ``batch.csv``, if it is there."""
    file = run / "batch.csv"
    if not file.is_file():
        return {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(file, f"is no table ({error})", _AGAIN) from None
    told: dict[str, ResultFiles] = {}
    for line in lines:
        name = line.get("id")
        if not name:
            raise InputError(file, "has a line without id", _AGAIN)
        if name in told:
            raise InputError(file, f"the pair {name} stands there twice", _AGAIN)
        try:
            seconds = float(line.get("seconds") or "nan")
        except ValueError:
            raise InputError(file, f"seconds of {name} are no number", _AGAIN) from None
        told[name] = _told(seconds, line.get("status") or "done", line.get("error") or "")
    return told
