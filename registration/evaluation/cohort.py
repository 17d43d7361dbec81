"""The files of an evaluation: every figure of every pair in one tidy table, and what they say together."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..io.files import atomic_path
from .definitions import METRICS
from .figure import AFTER, BEFORE, Figure
from .statistics import summarise

COLUMNS = ("id", "metric", "label", "when", "value", "unit")
OUTPUTS = ("metrics.csv", "summary.json", "cases.json", "provenance.json", "report.html")
FAILED = "failed"
# The share of pairs that the challenge's "30" columns speak of: the worst 30 % of Dice, 70 % of what should be small.
_WORST = {"l2r_dice": 0.3, "l2r_hd95": 0.3, "l2r_tre": 0.7, "l2r_sdlogj": 0.7}


@dataclass(frozen=True)
class Judged:
    """One pair after evaluation.

    Parameters
    ----------
    status, error
        As the batch tells it, or failed; and then why, in one line.
    files
        Role (fixed, moving, warped, ..., see :func:`write_cohort`) -> absolute path.
    missing
        Label -> the image that does not have it.
    lost
        Labels of both images that warping has moved out of sight.
    notices
        What was decided on the way.
    hashes
        SHA-256 of the files, by role.
    reading
        How the files were read where that was chosen: channels of images and labels, spacing, points_space.
    """

    id: str
    status: str
    error: str = ""
    figures: tuple[Figure, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    lost: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)


def write_cohort(folder: Path, cohort: Sequence[Judged], home: Path) -> dict[str, Any]:
    """Write ``metrics.csv``, ``summary.json`` and ``cases.json``.

    Parameters
    ----------
    folder
        Where to write.
    cohort
        All pairs in the order of their table.
    home
        Where the folder will be in the end: paths in ``cases.json`` are relative to it, or absolute where they have
        nothing but the root in common.

    Returns
    -------
    The summary.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    summary = summary_of(cohort)
    _write(folder / "metrics.csv", _table(cohort))
    _write(folder / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    cases = [_case(judged, home) for judged in cohort]
    _write(folder / "cases.json", json.dumps(cases, indent=2, allow_nan=False) + "\n")
    return summary


def summary_of(cohort: Sequence[Judged]) -> dict[str, Any]:
    """What the pairs say together: statistics of every metric before and after, of all labels and of each."""
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for judged in cohort:
        for figure in judged.figures:
            key = (figure.metric, figure.label, figure.when)
            values[key] += [] if figure.value is None else [figure.value]
    overall: dict[str, dict[str, Any]] = {}
    per_label: dict[str, dict[str, dict[str, Any]]] = {}
    for (metric, label, when), numbers in sorted(values.items(), key=lambda item: _order(*item[0])):
        place = per_label.setdefault(metric, {}).setdefault(label, {}) if label else overall.setdefault(metric, {})
        place[when] = summarise(numbers)
        if metric in _WORST and numbers:
            place[when]["quantile30"] = float(np.quantile(numbers, _WORST[metric]))
    failed = [{"id": judged.id, "error": judged.error} for judged in cohort if judged.status == FAILED]
    statuses = Counter(judged.status for judged in cohort)
    used = sorted({metric for metric, _, _ in values}, key=list(METRICS).index)
    return {
        "version": __version__,
        "counts": {"pairs": len(cohort), "judged": len(cohort) - len(failed), **dict(sorted(statuses.items()))},
        "metrics": overall,
        "per_label": per_label,
        "missing": [
            {"id": judged.id, "label": label, "in": where}
            for judged in cohort
            for label, where in sorted(judged.missing.items())
        ],
        "lost": [{"id": judged.id, "label": label} for judged in cohort for label in judged.lost],
        "failed": failed,
        "definitions": {metric: METRICS[metric].definition for metric in used},
        "before": "as the headers place the two images in the world, without any transform",
    }


def _order(metric: str, label: str, when: str) -> tuple[int, int, int]:
    return list(METRICS).index(metric), int(label or -(2**63)), (BEFORE, AFTER).index(when)


def _table(cohort: Sequence[Judged]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for judged in cohort:
        for figure in judged.figures:
            value = "" if figure.value is None or not math.isfinite(figure.value) else f"{figure.value:.10g}"
            writer.writerow([judged.id, figure.metric, figure.label, figure.when, value, figure.unit])
    return stream.getvalue()


def _case(judged: Judged, home: Path) -> dict[str, Any]:
    told: dict[str, Any] = {"id": judged.id, "status": judged.status, "error": judged.error}
    told |= {role: _relative(path, home) for role, path in judged.files.items()}
    told["notices"] = list(judged.notices)
    return {**told, "reading": judged.reading} if judged.reading else told


def _relative(path: str, home: Path) -> str:
    try:
        common = os.path.commonpath([path, home])
    except ValueError:  # other drives
        return path
    return path if common == os.path.sep else Path(os.path.relpath(path, home)).as_posix()


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
