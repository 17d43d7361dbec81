"""What an evaluation left in its folder: ``metrics.csv``, ``summary.json``, ``cases.json``, ``provenance.json``."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...io.files import existing_file
from ..figure import AFTER, BEFORE

METRICS, SUMMARY, CASES, PROVENANCE = "metrics.csv", "summary.json", "cases.json", "provenance.json"
_COLUMNS = ("id", "metric", "label", "when", "value", "unit")
_CHANNELS = ("channel", "label_channel", "fixed_channel", "moving_channel")
_MARKS = ("inverted", "fsl")
_CURE = "run registration evaluate again"


@dataclass(frozen=True)
class Row:
    """One line of ``metrics.csv``: a figure of one case; ``value`` is None where it could not be had."""

    case: str
    metric: str
    label: str
    when: str
    value: float | None
    unit: str


@dataclass(frozen=True)
class Reading:
    """How the files of a case are read, as ``evaluate`` was told.

    Parameters
    ----------
    channel, label_channel
        Volume of images and of label files with several, from 0.
    spacing
        D voxel spacings in mm that replace those of the files.
    points_space
        What landmark tables hold: ras, lps or voxel.
    label_interpolation
        How labels are warped where no file holds them warped: nearest, or label for a vote.
    fixed_channel, moving_channel
        ``channel`` of one image alone, which goes before it.
    inverted
        The roles of transform files that are used the other way round.
    fsl
        The roles of those that are matrices of FSL.
    """

    channel: int | None = None
    label_channel: int | None = None
    spacing: tuple[float, ...] | None = None
    points_space: str | None = None
    label_interpolation: str | None = None
    fixed_channel: int | None = None
    moving_channel: int | None = None
    inverted: tuple[str, ...] = ()
    fsl: tuple[str, ...] = ()

    @staticmethod
    def of(told: Any) -> Reading:
        """From an entry of ``cases.json``; what is no such thing is left out."""
        told = told if isinstance(told, dict) else {}
        numbers = {name: told[name] for name in _CHANNELS if isinstance(told.get(name), int)}
        words = {n: told[n] for n in ("points_space", "label_interpolation") if isinstance(told.get(n), str)}
        spacing = told.get("spacing")
        good = isinstance(spacing, list) and all(isinstance(step, int | float) for step in spacing)
        mm = tuple(float(step) for step in spacing) if good and spacing else None
        turned, matrices = (tuple(map(str, told[n])) if isinstance(told.get(n), list) else () for n in _MARKS)
        return Reading(**numbers, **words, spacing=mm, inverted=turned, fsl=matrices)

    def on(self, own: int | None) -> Reading:
        """The same with a choice of one side, where there is one, instead of that for both."""
        return self if own is None else replace(self, channel=own)


@dataclass(frozen=True)
class Case:
    """One entry of ``cases.json``.

    Parameters
    ----------
    id
        Name of the pair.
    status, error
        How its registration or evaluation ended, in a word; and why, where it failed.
    files
        Role (``fixed``, ``moving``, ``warped``, ``fixed_labels``, ``transform``, ...) -> file, of those named.
    notices
        What was decided while it was judged.
    reading
        How its files are to be read.
    """

    id: str
    status: str
    error: str
    files: dict[str, Path]
    notices: tuple[str, ...] = ()
    reading: Reading = Reading()


@dataclass(frozen=True)
class Evaluation:
    """A whole evaluation folder."""

    folder: Path
    rows: list[Row]
    cases: list[Case]
    summary: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)


def read_evaluation(folder: Path) -> Evaluation:
    """Read an evaluation folder.

    Raises
    ------
    InputError
        If the folder or one of its three files is missing or is not what ``registration evaluate`` writes; a missing
        ``provenance.json`` is no error.
    """
    if not folder.is_dir():
        raise InputError(folder, "there is no such folder", "give the --output folder of registration evaluate")
    missing = [name for name in (METRICS, SUMMARY, CASES) if not (folder / name).is_file()]
    if missing:
        raise InputError(folder, f"holds no {', '.join(missing)}", "give the --output folder of registration evaluate")
    rows = _rows(existing_file(folder / METRICS))
    summary = _json(folder / SUMMARY, dict)
    cases = [_case(folder, entry) for entry in _json(folder / CASES, list)]
    listed = {case.id for case in cases}
    if len(listed) != len(cases):
        raise InputError(folder / CASES, "names a case twice", _CURE)
    strays = sorted({row.case for row in rows} - listed)
    if strays:
        raise InputError(folder / METRICS, f"holds {strays[0]!r}, which {CASES} does not list", _CURE)
    provenance = _json(folder / PROVENANCE, dict) if (folder / PROVENANCE).is_file() else {}
    return Evaluation(folder, rows, cases, summary, provenance)


def _rows(file: Path) -> list[Row]:
    try:
        return _lines(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(file, f"is no table ({error})", _CURE) from None


def _lines(file: Path) -> list[Row]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        absent = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if absent:
            raise InputError(file, f"has no column {', '.join(absent)}", f"columns are {','.join(_COLUMNS)}")
        rows: dict[tuple[str, str, str, str], Row] = {}
        for line in reader:
            number = reader.line_num
            if None in line.values() or None in line:
                raise InputError(file, f"line {number} has not as many cells as the first", _CURE)
            if line["when"] not in (BEFORE, AFTER):
                raise InputError(file, f"line {number}: {line['when']!r} is neither {BEFORE} nor {AFTER}", _CURE)
            row = Row(
                line["id"], line["metric"], line["label"], line["when"], _number(file, number, line["value"]),
                line["unit"],
            )  # fmt: skip
            key = row.case, row.metric, row.label, row.when
            if key in rows:
                told = " ".join(filter(None, key[1:]))
                raise InputError(file, f"line {number} gives {told} of {row.case!r} a second time", _CURE)
            rows[key] = row
        return list(rows.values())


def _number(file: Path, line: int, text: str | None) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise InputError(file, f"line {line}: {text!r} is no number", _CURE) from None
    return value if math.isfinite(value) else None


def _json(file: Path, kind: type) -> Any:
    try:
        # NaN and Infinity are no JSON, though Python writes them.
        content = json.loads(existing_file(file).read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise InputError(file, f"is no JSON ({error})", _CURE) from None
    if not isinstance(content, kind):
        raise InputError(file, f"holds a {type(content).__name__}, a {kind.__name__} was expected", _CURE)
    return content


def _case(folder: Path, entry: Any) -> Case:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise InputError(folder / CASES, "holds an entry without id", _CURE)
    others = {key: value for key, value in entry.items() if key not in ("id", "status", "error")}
    files = {key: folder / value for key, value in others.items() if isinstance(value, str) and value}
    told = entry.get("notices") or ()
    notices = tuple(str(text) for text in (told if isinstance(told, (list, tuple)) else [told]))
    status, error = str(entry.get("status") or "done"), str(entry.get("error") or "")
    return Case(entry["id"], status, error, files, notices, Reading.of(entry.get("reading")))
