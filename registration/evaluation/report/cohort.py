"""The figures of all pairs as the data of the page's tables and plots."""

from __future__ import annotations

from typing import Any

from ... import __version__
from ..figure import AFTER, BEFORE
from .folder import Evaluation
from .names import described

_WHENS = (BEFORE, AFTER)


def cohort_data(evaluation: Evaluation, title: str) -> dict[str, Any]:
    """Cases, metrics and every figure of ``metrics.csv``, in columns; ready for JSON.

    ``figures`` holds, line by line, the positions of case, metric, label (-1 without) and time (0 before, 1 after), and
    the value, null where it is missing.
    """
    rows = evaluation.rows
    cases = {case.id: n for n, case in enumerate(evaluation.cases)}
    units = {row.metric: row.unit for row in rows}
    definitions = {str(k): str(v) for k, v in (evaluation.summary.get("definitions") or {}).items()}
    metrics = described(list(units), units, definitions)
    places = {metric["name"]: n for n, metric in enumerate(metrics)}
    labels = sorted({row.label for row in rows if row.label}, key=_label_order)
    label_places = {"": -1, **{label: n for n, label in enumerate(labels)}}
    return {
        "version": str(evaluation.summary.get("version") or __version__),
        "title": title,
        "cases": [{"id": case.id, "status": case.status, "error": case.error} for case in evaluation.cases],
        "metrics": metrics,
        "labels": labels,
        "figures": {
            "case": [cases[row.case] for row in rows],
            "metric": [places[row.metric] for row in rows],
            "label": [label_places[row.label] for row in rows],
            "when": [_WHENS.index(row.when) for row in rows],
            "value": [row.value for row in rows],
        },
        "summary": evaluation.summary.get("metrics") or {},
        "provenance": evaluation.provenance,
    }


def _label_order(label: str) -> tuple[bool, float, str]:
    """Numbers by size, then words."""
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label
