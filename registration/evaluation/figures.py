"""All figures of one pair, before and after: "before" is as the headers place the images, in world space."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from ..image import Image
from ..sampling import warp
from ..transforms.base import Transform
from ..transforms.linear import Linear
from . import learn2reg
from .figure import AFTER, BEFORE
from .jacobian import inverse_consistency, jacobian_figures
from .metrics import jaccard, mean_dice, target_registration_error
from .overlaps import Labels, labels_of, labels_of_pair, overlaps
from .similarity import similarity_figures
from .subject import Judgement, Subject
from .surfaces import surface_distances

_POINTS = 1 << 17  # fixed points at most at which the inverse is tried


def figures_of(subject: Subject) -> Judgement:
    """Everything that can be said of a pair.

    Raises
    ------
    ValueError
        If the parts of ``subject`` do not fit together: shapes, dimensions or numbers of landmarks.
    """
    told = Judgement()
    header = Linear.identity(subject.fixed.ndim)
    after = subject.remembered()
    for when, transform in ((BEFORE, header), (AFTER, after)):
        _similarity(told, subject, when, transform)
        _landmarks(told, subject, when, transform)
    _labels(told, subject, {BEFORE: header, AFTER: after})
    if after is not None:
        told.add(AFTER, jacobian_figures(after, subject.fixed.space))
        if subject.inverse is not None:
            told.add(AFTER, _returning(subject, after, subject.inverse))
    if subject.fixed.ndim == 3:
        _learn2reg(told, subject, {BEFORE: header, AFTER: after})
    if subject.seconds is not None:
        told.add(AFTER, {"seconds": subject.seconds})
    return told


def _similarity(told: Judgement, subject: Subject, when: str, transform: Transform | None) -> None:
    fixed, warped = subject.fixed, subject.warped
    if transform is not None:
        # The smallest value stands for nothing, as it does where a program writes a warped image.
        fill = min(0.0, float(subject.moving.data.min()))
        warped, inside = warp(subject.moving, transform, fixed.space, fill=fill)
    elif warped is not None:
        inside = torch.ones(1, 1, *fixed.space.shape, dtype=torch.bool)
    else:
        return
    where = inside if fixed.mask is None else inside & fixed.mask
    told.add(when, similarity_figures(fixed, warped, where))


def _landmarks(told: Judgement, subject: Subject, when: str, transform: Transform | None) -> None:
    if subject.points is None or transform is None:
        return
    distances = target_registration_error(transform, *subject.points)
    ends = {"tre": distances.mean(), "tre_median": distances.quantile(0.5), "tre_max": distances.max()}
    told.add(when, {name: float(value) for name, value in ends.items()})


def _labels(told: Judgement, subject: Subject, transforms: Mapping[str, Transform | None]) -> None:
    fixed = subject.fixed_labels
    if fixed is None:
        return
    maps = {when: on_fixed_grid(subject, when, transform) for when, transform in transforms.items()}
    source = subject.moving_labels if subject.moving_labels is not None else maps[AFTER]
    if source is None:
        return
    names = ("fixed", "warped" if subject.moving_labels is None else "moving")
    labels = labels_of_pair(fixed.data, source.data, names)
    told.missing |= labels.missing
    for when, warped in maps.items():
        if warped is not None:
            _compare_labels(told, when, fixed, warped, labels)


def _compare_labels(told: Judgement, when: str, fixed: Image, warped: Image, labels: Labels) -> None:
    a, b = fixed.data[0, 0], warped.data[0, 0]
    scores, lost = overlaps(a, b, labels)
    if when == AFTER:
        told.lost += lost
    surfaces = surface_distances(a, b, fixed.space, labels.wanted)
    values: dict[str, dict[int, float | None]] = {
        "dice": scores,
        "jaccard": jaccard(scores),
        "hd95": {label: None if pair is None else pair.hd95 for label, pair in surfaces.items()},
        "assd": {label: None if pair is None else pair.assd for label, pair in surfaces.items()},
    }
    for metric, per_label in values.items():
        told.add(when, {metric: mean_dice(per_label)})
        for label, value in per_label.items():
            told.add(when, {metric: value}, str(label))


def on_fixed_grid(subject: Subject, when: str, transform: Transform | None) -> Image | None:
    """The moving labels on the fixed grid: those that were given, or warped; None if there are neither."""
    if when == AFTER and subject.warped_labels is not None:
        return subject.warped_labels
    if subject.moving_labels is None or transform is None:
        return None
    return warp(subject.moving_labels, transform, subject.fixed.space, subject.label_sampler)[0]


def _returning(subject: Subject, forward: Transform, backward: Transform) -> dict[str, float | None]:
    """Where points of the fixed image come back to that the transform keeps in the moving field of view."""
    fixed, moving = subject.fixed, subject.moving
    chosen = torch.ones(fixed.space.shape, dtype=torch.bool) if fixed.mask is None else fixed.mask[0, 0]
    index = chosen.nonzero()
    index = index[:: max(1, -(-len(index) // _POINTS))].double()
    points = Linear(fixed.space.affine)(index)
    inside = Linear(moving.space.to_unit())(forward(points)).abs().amax(dim=-1) <= 1
    distances = inverse_consistency(forward, backward, points[inside])
    names = ("inverse_consistency", "inverse_consistency_p95")
    if not len(distances):
        return dict.fromkeys(names)
    return dict(zip(names, (float(distances.mean()), float(distances.quantile(0.95))), strict=True))


def _learn2reg(told: Judgement, subject: Subject, transforms: Mapping[str, Transform | None]) -> None:
    fixed, moving = subject.fixed.space, subject.moving.space
    for when, transform in transforms.items():
        moves = None if transform is None else learn2reg.voxel_displacement(transform, fixed, moving)
        told.add(when, _challenge_labels(subject, when, moves))
        if moves is None:
            continue
        if subject.points is not None:
            a, b = (
                Linear(torch.linalg.inv(space.affine))(points.double()).numpy()
                for space, points in zip((fixed, moving), subject.points, strict=True)
            )
            told.add(when, {"l2r_tre": learn2reg.mean_landmark_error(moves, a, b, moving.spacing.numpy())})
        if when == AFTER:
            mask = None if subject.fixed.mask is None else subject.fixed.mask[0, 0].numpy()
            told.add(when, {"l2r_sdlogj": learn2reg.sd_log_jacobian(moves, mask)})


def _challenge_labels(subject: Subject, when: str, moves: np.ndarray | None) -> dict[str, float | None]:
    if subject.fixed_labels is None or subject.moving_labels is None:
        return {}
    fixed, moving = (image.data[0, 0].numpy() for image in (subject.fixed_labels, subject.moving_labels))
    if moves is not None:
        warped = learn2reg.warp_labels(moving, moves)
    elif when == AFTER and subject.warped_labels is not None:
        warped = subject.warped_labels.data[0, 0].numpy()
    else:
        return {}
    labels = labels_of(subject.fixed_labels.data)
    hd95 = learn2reg.mean_hd95(fixed, moving, warped, labels)
    return {
        "l2r_dice": learn2reg.mean_overlap(fixed, moving, warped, labels),
        # JSON and tables have no infinity: a label lost by warping leaves the figure empty.
        "l2r_hd95": hd95 if hd95 is not None and math.isfinite(hd95) else None,
    }
