"""Judge a run on its own images, before and after: similarity, overlap, folding, Dice and landmark distances."""

from __future__ import annotations

from typing import Any

import torch

from ..evaluation.metrics import correlation, folding_percent, mean_dice, overlap, target_registration_error
from ..evaluation.overlaps import labels_of_pair, overlaps
from ..image import Image
from ..sampling import warp
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .case import Case


def fill_of(moving: Image) -> float:
    """The value outside the moving field of view: 0, or the smallest where images go below it, such as air in CT."""
    return min(0.0, float(moving.data.min()))


def scores(case: Case, transform: Transform, warped: Image, inside: torch.Tensor) -> dict[str, Any]:
    """Figures for ``metrics.json``: "before" is as the headers place the images.

    Parameters
    ----------
    transform
        The result, fixed RAS mm -> moving RAS mm.
    warped, inside
        The moving image on the fixed grid through ``transform``, and where it was sampled.
    """
    fixed, moving = case.seen
    header = Linear.identity(fixed.ndim)
    untouched, inside_before = warp(moving, header, fixed.space, fill=fill_of(moving))
    if moving is not case.moving.image:
        warped = warp(moving, transform, fixed.space, fill=fill_of(moving))[0]
    mask = fixed.mask
    where = [valid if mask is None else valid & mask for valid in (inside_before, inside)]
    result: dict[str, Any] = {
        "similarity": {
            "name": "normalised cross-correlation over the common field of view",
            "before": correlation(fixed, untouched, where[0]),
            "after": correlation(fixed, warped, where[1]),
        },
        "overlap": {"before": overlap(inside_before, mask), "after": overlap(inside, mask)},
        "folding_percent": folding_percent(transform, fixed.space),
    }
    if case.fixed_labels is not None and case.moving_labels is not None:
        result["dice"] = _dice(case, header, transform)
    if case.points is not None:
        result["tre_mm"] = {"before": _distances(case, header), "after": _distances(case, transform)}
    return result


def _dice(case: Case, before: Transform, after: Transform) -> dict[str, Any]:
    assert case.fixed_labels is not None and case.moving_labels is not None
    fixed, moving = case.fixed_labels.image, case.moving_labels.image
    labels = labels_of_pair(fixed.data, moving.data)
    told: dict[str, Any] = {}
    for name, transform in (("before", before), ("after", after)):
        values, lost = overlaps(fixed.data, warp(moving, transform, fixed.space, case.label_sampler)[0].data, labels)
        told[name] = {
            "mean": mean_dice(values),
            "per_label": {str(label): value for label, value in values.items() if value is not None},
            "missing_in_one": list(labels.missing),
            "lost": lost,
        }
    return told


def _distances(case: Case, transform: Transform) -> dict[str, Any]:
    assert case.points is not None
    values = target_registration_error(transform, *case.points)
    ends = {"mean": values.mean(), "median": values.quantile(0.5), "max": values.max()}
    return {**{name: float(value) for name, value in ends.items()}, "points": [round(v, 6) for v in values.tolist()]}


def headline(figures: dict[str, Any]) -> dict[str, str]:
    """The few figures a person reads, as text: name -> "before -> after"."""
    told = {"NCC": _change(figures["similarity"]["before"], figures["similarity"]["after"])}
    if "dice" in figures:
        told["mean Dice"] = _change(figures["dice"]["before"]["mean"], figures["dice"]["after"]["mean"])
    if "tre_mm" in figures:
        told["mean TRE"] = _change(figures["tre_mm"]["before"]["mean"], figures["tre_mm"]["after"]["mean"], 2) + " mm"
    told["overlap"] = _change(figures["overlap"]["before"], figures["overlap"]["after"], 2)
    told["folding"] = f"{figures['folding_percent']:.3g} %"
    return told


def _change(before: float | None, after: float | None, digits: int = 3) -> str:
    shown = ["none" if v is None else f"{v:.{digits}f}" for v in (before, after)]
    return " -> ".join(shown)
