"""A small evaluation folder in the form that ``registration evaluate`` writes, made from phantoms."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from registration.evaluation.metrics import correlation, dice, folding_percent, target_registration_error
from registration.io.images import write_image
from registration.io.points import write_points
from registration.io.transforms import write_transform
from registration.phantom import oblique_space, phantom_pair
from registration.sampling import nearest, warp
from registration.space import Space
from registration.transforms.base import Transform
from registration.transforms.linear import Linear
from registration.transforms.tps import ThinPlateSpline

HOSTILE = "<script>alert(1)</script> \"quoted\" & 'more' </script><!--PAIRS--> \u2028ü"
UNITS = {"dice": "", "tre": "mm", "ncc": "", "folding": "%", "seconds": "s"}
DEFINITIONS = {"dice": "2|A ∩ B| / (|A| + |B|) of a label.", "tre": "Mean distance of <b>landmarks</b> & partners."}

Line = tuple[str, str, str, str, float | None, str]


def spaces(ndim: int) -> tuple[Space, Space]:
    """Small grids that differ in everything."""
    if ndim == 2:
        return oblique_space((60, 72), (3.0, 2.5), 0), oblique_space((64, 56), (3.0, 3.2), 0, flips=(0,))
    return oblique_space((44, 52, 24), (4.0, 3.5, 7.0), 9), oblique_space(
        (40, 44, 40), (4.4, 4.2, 4.4), -14, flips=(0, 2)
    )


def write_case(
    folder: Path, case: str, ndim: int = 3, seed: int = 0, place: str = ""
) -> tuple[dict[str, Any], list[Line]]:
    """Write one registered phantom pair; its entry in ``cases.json`` and its lines of ``metrics.csv``."""
    pair = phantom_pair(*spaces(ndim), seed)
    place = place or f"images/{seed}"
    (folder / place).mkdir(parents=True, exist_ok=True)
    # Half of the landmarks fit the spline, so that the others have an error to show.
    transform = ThinPlateSpline(pair.fixed_points[::2], pair.moving_points[::2])
    files = {name: f"{place}/{name}.nii.gz" for name in ("fixed", "moving", "warped", "fixed_labels", "moving_labels")}
    files |= {"transform": f"{place}/transform.h5"} | {n: f"{place}/{n}.csv" for n in ("fixed_points", "moving_points")}
    warped, _ = warp(pair.moving, transform, pair.fixed.space)
    for name, image in (("fixed", pair.fixed), ("moving", pair.moving), ("warped", warped)):
        write_image(folder / files[name], image)
    for name, image in (("fixed_labels", pair.fixed_labels), ("moving_labels", pair.moving_labels)):
        write_image(folder / files[name], image, dtype="uint8")
    for name, points in (("fixed_points", pair.fixed_points), ("moving_points", pair.moving_points)):
        write_points(folder / files[name], points)
    write_transform(folder / files["transform"], transform, pair.fixed.space, pair.moving.space, tolerance=1.0)
    lines: list[Line] = [
        (case, "folding", "", "after", folding_percent(transform, pair.fixed.space), "%"),
        (case, "seconds", "", "after", 1.25 + seed, "s"),
    ]
    whens: Sequence[tuple[str, Transform]] = (("before", Linear.identity(ndim)), ("after", transform))
    for when, through in whens:
        moved = warp(pair.moving_labels, through, pair.fixed.space, nearest)[0]
        overlaps = dice(pair.fixed_labels.data, moved.data)
        lines += [(case, "dice", str(label), when, value, "") for label, value in overlaps.items()]
        distances = target_registration_error(through, pair.fixed_points, pair.moving_points)
        lines.append((case, "tre", "", when, float(distances.mean()), "mm"))
        seen, valid = warp(pair.moving, through, pair.fixed.space)
        lines.append((case, "ncc", "", when, correlation(pair.fixed, seen, valid), ""))
    return {"id": case, "status": "done", "error": "", **files}, lines


def write_folder(folder: Path, cases: Sequence[dict[str, Any]], lines: Sequence[Line]) -> Path:
    """Write the files of an evaluation around cases and figures."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "metric", "label", "when", "value", "unit"))
        writer.writerows([*line[:4], "" if line[4] is None else repr(line[4]), line[5]] for line in lines)
    failed = [{"id": case["id"], "error": case["error"]} for case in cases if case.get("error")]
    values = torch.tensor([line[4] for line in lines if line[1] == "ncc" and line[3] == "after"] or [0.0])
    mean = float(values.mean())
    summary = {
        "version": "0.0.0", "counts": {"pairs": len(cases)}, "failed": failed, "definitions": DEFINITIONS,
        "metrics": {"ncc": {"after": {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "confidence": 0.95}}},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "cases.json").write_text(json.dumps(list(cases)), encoding="utf-8")
    (folder / "provenance.json").write_text(json.dumps({"arguments": "</script><b>bold</b>"}), encoding="utf-8")
    return folder


def small_evaluation(folder: Path) -> Path:
    """Three shown pairs (one in 2-D, one with a hostile name), one that failed, one whose images are gone."""
    one, lines = write_case(folder, "phantom-1", 3, 1)
    two, more = write_case(folder, HOSTILE, 3, 2)
    flat, flats = write_case(folder, "slice", 2, 3)
    failed = {"id": "broken", "status": "failed", "error": "fixed.nii.gz: <b>truncated</b>; copy it again"}
    gone = {"id": "gone", "status": "done", "error": "", "fixed": "nowhere/fixed.nii.gz", "moving": "nowhere/m.nii.gz"}
    missing: list[Line] = [("gone", "dice", "1", "after", None, "")]
    return write_folder(folder, [one, two, flat, failed, gone], [*lines, *more, *flats, *missing])
