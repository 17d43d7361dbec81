"""Flat views through an image: three planes through the middle of the object, upright, in square millimetres.

A view is itself a thin :class:`Space`, so images and transforms are looked at by the same sampler as everywhere
else, and anisotropic, flipped and oblique grids need no further care.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..image import Image
from ..space import Space

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
_NAMES = {0: "sagittal", 1: "coronal", 2: "axial"}
_PIXELS = 400  # along the longest side


@dataclass(frozen=True)
class Plane:
    """One view.

    Parameters
    ----------
    space
        (nu, nv) or (nu, nv, 1) pixels: axis 0 runs to the right of the picture, axis 1 upwards.
    name
        axial, coronal or sagittal by the nearest world axis; "plane" in 2-D.
    letters
        What lies at the left, right, bottom and top of the picture: R, L, A, P, S, I of the nearest world axes.
    tilt
        Degrees between the picture's axes and the world axes, the larger of the two.
    """

    space: Space
    name: str
    letters: tuple[str, str, str, str]
    tilt: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, mm."""
        width, height = self.space.extent[:2].tolist()
        return width, height

    def along(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """How far (..., D) world points lie to the right and up, mm: coordinates on the picture's own axes."""
        d = self.space.ndim
        axes = self.space.affine[:d, :2] / self.space.spacing[:2]
        flat = points @ axes.to(points)
        return flat[..., 0], flat[..., 1]


def planes_through(image: Image) -> list[Plane]:
    """Views of the whole field of view through the middle of the object: one in 2-D, up to three in 3-D.

    They follow the image's own axes, turned so that the patient stands upright and, as radiologists look, has the
    right side at the left of the picture. A plane that a single-slice image would show as a line is left out, unless
    there is no other.
    """
    space, d = image.space, image.ndim
    directions = space.affine[:d, :d] / space.spacing
    # Which grid axis runs most nearly along each world axis.
    order = max(itertools.permutations(range(d)), key=lambda p: sum(abs(float(directions[w, p[w]])) for w in range(d)))
    middle = middle_of(image)
    views = [(0, 1, None)] if d == 2 else [(0, 1, 2), (0, 2, 1), (1, 2, 0)]
    result, lines = list[Plane](), list[Plane]()
    for across, upward, through in views:
        sides = [order[across], order[upward]]
        flat = d == 3 and min(space.shape[a] for a in sides) == 1
        (lines if flat else result).append(_plane(space, directions, order, (across, upward, through), middle))
    return result or [max(lines, key=lambda plane: max(plane.size))]


def _plane(
    space: Space, directions: Tensor, order: tuple[int, ...], world: tuple[int, int, int | None], middle: Tensor
) -> Plane:
    d = space.ndim
    across, upward, through = world
    extent = space.extent
    axes = [order[across], order[upward]]
    longest = max(float(extent[a]) for a in axes)
    pixel = max(min(float(space.spacing[a]) for a in axes), longest / _PIXELS)
    # The right of the picture is the patient's left (-x), on a sagittal view the back (-y); up is front or head.
    signs = [-float(directions[across, axes[0]].sign()), float(directions[upward, axes[1]].sign())]
    # Two pixels at least, for there is no contour through one.
    counts = [max(2, round(float(extent[a]) / pixel)) for a in axes]
    affine = torch.eye(d + 1, dtype=torch.float64)
    start = middle.clone()
    for column, (axis, sign, count) in enumerate(zip(axes, signs, counts, strict=True)):
        affine[:d, column] = directions[:, axis] * sign * float(extent[axis]) / count
        start[axis] = -0.5 if sign > 0 else space.shape[axis] - 0.5
    if through is not None:
        affine[:d, 2] = space.affine[:d, order[through]]
        start[order[through]] = start[order[through]].round()
    edge = space.affine[:d, :d] @ start + space.affine[:d, d]
    affine[:d, d] = edge + (affine[:d, 0] + affine[:d, 1]) / 2
    shape = (counts[0], counts[1]) if through is None else (counts[0], counts[1], 1)
    # Letters at the right and top of the picture, by the sign of the step along the world axis.
    right, top = int(signs[0] * directions[across, axes[0]] > 0), int(signs[1] * directions[upward, axes[1]] > 0)
    letters = (_LETTERS[across][1 - right], _LETTERS[across][right], _LETTERS[upward][1 - top], _LETTERS[upward][top])
    cosines = [abs(float(directions[w, a])) for w, a in zip((across, upward), axes, strict=True)]
    tilt = max(float(torch.rad2deg(torch.arccos(torch.tensor(min(1.0, c))))) for c in cosines)
    return Plane(Space(shape, affine), "plane" if through is None else _NAMES[through], letters, tilt)


def middle_of(image: Image) -> Tensor:
    """(D,) centre of mass of the mask, or of what stands out from the border of the image; voxel index, float64."""
    if image.mask is not None and bool(image.mask.any()):
        weight = image.mask[0, 0].double()
    else:
        values = image.data[0, 0]
        weight = (values - background_of(values)).nan_to_num().abs().double()
        weight = weight * (weight > 0.15 * thinned(weight).quantile(0.99))
    total = float(weight.sum())
    centre = [(n - 1) / 2 for n in image.space.shape]
    if total > 0:
        for axis, n in enumerate(image.space.shape):
            others = [a for a in range(weight.ndim) if a != axis]
            centre[axis] = float((weight.sum(dim=others) * torch.arange(n, dtype=torch.float64)).sum()) / total
    return torch.tensor(centre, dtype=torch.float64)


def thinned(values: Tensor, most: int = 300_000) -> Tensor:
    """Evenly chosen values, flat, at most about ``most``: enough for quantiles, and quick on a volume."""
    return values.flatten()[:: max(1, values.numel() // most)]


def background_of(values: Tensor) -> Tensor:
    """The median of the outermost voxels of an (*S) array: 0 of a stripped head, -1000 of CT, white of a slide."""
    faces = [
        values.select(axis, end).flatten() for axis in range(values.ndim) for end in (0, -1) if values.shape[axis] > 2
    ]
    return (torch.cat(faces) if faces else values.flatten()).median()


def window_of(image: Image) -> tuple[float, float]:
    """Intensities to show as black and white: the middle 99 % of what is not background."""
    values = thinned(image.data[0, 0].nan_to_num())
    low, high = (float(v) for v in values.aminmax())
    background = float(background_of(image.data[0, 0]))
    object_values = values[(values - background).abs() > 0.02 * (high - low)]
    if object_values.numel() > 20:
        ends = object_values.quantile(torch.tensor([0.005, 0.995]).to(object_values)).tolist()
        low, high = min(ends[0], background), max(ends[1], background)
    return (low, high) if high > low else (low, low + 1)
