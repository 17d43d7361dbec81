"""Figures that judge a registration. Each says its unit, and none turns missing evidence into a number.

Letters in shapes: B batch, C channels, S spatial shape, D spatial dimension, N points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from ..image import Image
from ..space import Space
from ..transforms.base import Transform
from ..transforms.cells import determinant
from ..transforms.linear import Linear

_SLAB = 1 << 21  # voxels whose derivatives are held at once
_TABLE = 1 << 20  # label values up to here are counted in a table
_PIECE = 1 << 16


def dice(a: Tensor, b: Tensor, labels: Iterable[int] | None = None) -> dict[int, float | None]:
    """Dice overlap 2|A ∩ B| / (|A| + |B|) of every label (Dice 1945).

    Parameters
    ----------
    a, b
        Label maps of one shape, integer-valued.
    labels
        Which labels to judge; without, all that occur except 0.

    Returns
    -------
    Label -> overlap in [0, 1]. A label that occurs in neither map is left out; one that occurs in only one of them has
    the value None: the structure is missing there, which is not the same as an overlap of 0.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"label maps must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    first, second = a.flatten().round().long(), b.flatten().round().long()
    in_first, in_second = label_counts(first), label_counts(second)
    shared = label_counts(first[first == second])
    wanted = sorted({*in_first, *in_second} - {0}) if labels is None else list(labels)
    result: dict[int, float | None] = {}
    for label in wanted:
        sizes = in_first.get(label, 0), in_second.get(label, 0)
        if all(sizes):
            result[label] = 2 * shared.get(label, 0) / sum(sizes)
        elif any(sizes):
            result[label] = None
    return result


def jaccard(dice_scores: Mapping[int, float | None]) -> dict[int, float | None]:
    """Jaccard index |A ∩ B| / |A ∪ B| of every label from its Dice overlap D: D / (2 - D) (Jaccard 1912)."""
    return {label: None if value is None else value / (2 - value) for label, value in dice_scores.items()}


def mean_dice(scores: Mapping[int, float | None]) -> float | None:
    """The mean over the labels that occur in both maps; None when there are none."""
    known = [v for v in scores.values() if v is not None]
    return sum(known) / len(known) if known else None


def label_counts(values: Tensor) -> dict[int, int]:
    """How often every value occurs in a tensor of whole numbers (int64)."""
    if values.numel() == 0:
        return {}
    low, high = (int(v) for v in values.aminmax())
    if low >= 0 and high < _TABLE:
        table = torch.bincount(values)
        present = table.nonzero().flatten()
        return dict(zip(present.tolist(), table[present].tolist(), strict=True))
    present, table = values.unique(return_counts=True)
    return dict(zip(present.tolist(), table.tolist(), strict=True))


def target_registration_error(transform: Transform, fixed_points: Tensor, moving_points: Tensor) -> Tensor:
    """Distance of every fixed landmark, pushed forward, from its moving partner (Fitzpatrick et al. 1998).

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm.
    fixed_points, moving_points
        (N, D) landmarks in RAS mm, row n of one belonging to row n of the other.

    Returns
    -------
    (N,) distances, mm.

    Raises
    ------
    ValueError
        If there are not as many points on both sides, or they are of another dimension than the transform.
    """
    if fixed_points.shape != moving_points.shape or fixed_points.ndim != 2:
        shapes = f"{tuple(fixed_points.shape)} and {tuple(moving_points.shape)}"
        raise ValueError(f"landmarks come in pairs, two (N, D) tables of one shape; got {shapes}")
    if fixed_points.shape[1] != transform.ndim:
        raise ValueError(f"the landmarks have {fixed_points.shape[1]} coordinates, the transform {transform.ndim}")
    return (transform(fixed_points.double()) - moving_points.double()).norm(dim=-1)


def jacobian_determinants(transform: Transform, space: Space, device: torch.device | str = "cpu") -> Tensor:
    """(*S) local change of volume d(moving)/d(fixed) on a grid, in world units: 1 keeps volume, 0 or less is folded.

    Central differences of the sampled map (one-sided at the border), the convention of the published folding figures.
    Axes of one voxel have no difference; there the derivative of the transform itself is used for the whole grid.
    Computed on ``device``, which is best that of the transform.
    """
    if min(space.shape) < 2:
        points = space.points(torch.zeros(0, dtype=torch.float64, device=device)).reshape(-1, space.ndim)
        return torch.linalg.det(transform.jacobian(points)).reshape(space.shape).float()
    mapped = transform.on_grid(space, torch.zeros(0, dtype=torch.float32, device=device))
    mapped = mapped[0] if mapped.ndim == space.ndim + 2 else mapped
    # Large coordinates would cost float32 its last digits in the differences.
    mapped = mapped - mapped.reshape(-1, space.ndim).mean(dim=0)
    to_world = torch.linalg.inv(space.affine[: space.ndim, : space.ndim])
    rows = max(1, _SLAB * space.shape[0] // max(1, mapped[..., 0].numel()))
    parts = []
    for start in range(0, space.shape[0], rows):
        stop = min(start + rows, space.shape[0])
        low, high = max(0, start - 1), min(space.shape[0], stop + 1)
        slab = torch.gradient(mapped[low:high], dim=tuple(range(space.ndim)))
        inner = [part[start - low : start - low + stop - start].unbind(dim=-1) for part in slab]
        parts.append(determinant(inner) * float(torch.linalg.det(to_world)))
    return torch.cat(parts)


def folding_percent(
    transform: Transform, space: Space, mask: Tensor | None = None, device: torch.device | str = "cpu"
) -> float:
    """Share of the grid, or of a boolean mask of its shape, where the Jacobian determinant is 0 or less; percent.

    Computed on ``device``, which is best that of the transform.
    """
    if isinstance(transform, Linear):
        return 100.0 if float(torch.linalg.det(transform.matrix.double())) <= 0 else 0.0
    folded = jacobian_determinants(transform, space, device) <= 0
    chosen = folded if mask is None else folded[mask.to(device).reshape(space.shape)]
    return 100 * float(chosen.float().mean()) if chosen.numel() else 0.0


def overlap(inside: Tensor, mask: Tensor | None = None) -> float:
    """Share of the fixed grid, or of the fixed mask, that was sampled inside the moving image; 0 to 1.

    Parameters
    ----------
    inside
        (B, 1, *S) validity mask as :func:`registration.sampling.warp` returns it.
    mask
        (B or 1, 1, *S) fixed mask.
    """
    chosen = inside if mask is None else inside[mask.expand_as(inside)]
    return float(chosen.float().mean()) if chosen.numel() else 0.0


def correlation(a: Image, b: Image, where: Tensor | None = None) -> float | None:
    """Normalised cross-correlation in [-1, 1] of two images on one grid.

    Parameters
    ----------
    a, b
        (1, C, *S) images of one shape.
    where
        (1, 1, *S) boolean: the voxels to compare; everywhere without.

    Returns
    -------
    None where there is nothing to compare: no voxel, or an image that is constant there.
    """
    if a.data.shape != b.data.shape:
        raise ValueError(f"{a.name} and {b.name} must have one shape: {tuple(a.data.shape)}, {tuple(b.data.shape)}")
    rest = None if where is None else ~where.expand_as(a.data).flatten()
    count = a.data.numel() if rest is None else rest.numel() - int(rest.sum())
    if count < 2:
        return None
    x, y = a.data.flatten(), b.data.flatten()
    mean = [sum(float(piece.sum()) for piece in _pieces(values, rest)) / count for values in (x, y)]
    xx = yy = xy = 0.0
    for p, q in zip(_pieces(x, rest, mean[0]), _pieces(y, rest, mean[1]), strict=True):
        xx, yy, xy = xx + float(p @ p), yy + float(q @ q), xy + float(p @ q)
    scale = math.sqrt(xx) * math.sqrt(yy)
    return xy / scale if scale > 0 else None


def _pieces(values: Tensor, rest: Tensor | None, less: float = 0.0) -> Iterator[Tensor]:
    """(N,) values less a number, as float64, in pieces that a processor keeps at hand; the rest is 0."""
    for start in range(0, len(values), _PIECE):
        piece = values[start : start + _PIECE].double() - less
        yield piece if rest is None else piece.masked_fill_(rest[start : start + _PIECE], 0.0)
