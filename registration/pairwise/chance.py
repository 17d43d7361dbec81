"""How much two images that know nothing of each other may seem to have in common, by chance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..image import Image
from ..losses import MutualInformation
from ..sampling import pull
from ..transforms.base import Transform

TRIES = 15.0  # nats: the best of the thousand poses a start is chosen from (7), and what a joint histogram can adapt
_LINES = 64  # along each other axis: so many lines of an image say how smooth it is
_LEAST, _MOST = 1e-3, 1 - 1e-6  # correlation of neighbours: that of noise, and the highest that rounding lets one see


def independent_samples(fixed: Image, moving: Image) -> float:
    """How many independent places the smaller field of view holds: its volume over that in which images stay alike.

    Neighbouring voxels of a smooth image say nothing new. Two unrelated images correlate by chance as if they had
    ``V / sum(r_f r_m)`` samples, with ``r_f`` and ``r_m`` their autocorrelations (Clifford et al. 1989,
    doi:10.2307/2532039), here Gaussians as wide as neighbouring voxels tell.

    Parameters
    ----------
    fixed, moving
        (1, C, *S) images; only voxels inside their masks count.

    Returns
    -------
    The number, the same for both orders; infinite if an image is constant.
    """
    lengths = [_length(image) for image in (fixed, moving)]
    if not all(lengths):
        return math.inf
    alike = math.sqrt(2 * math.pi) * lengths[0] * lengths[1] / math.hypot(*lengths)
    axes = [sum(n > 1 for n in image.space.shape) for image in (fixed, moving)]  # of a slice in a volume, the slice's
    volumes = [volume(image) for image, many in zip((fixed, moving), axes, strict=True) if many == min(axes)]
    return min(volumes) / alike ** min(axes)


def shared(fixed: Image, moving: Image, transform: Transform) -> float:
    """Nats of mutual information of two images, inside their masks, under a transform fixed -> moving RAS mm."""
    with torch.no_grad():
        values, seen = pull(moving, transform, fixed.space)
        if moving.mask is not None:
            seen = seen & (pull(moving.with_data(moving.mask.to(values)), transform, fixed.space)[0] > 0.5)
        if fixed.mask is not None:
            seen = seen & fixed.mask
        return -float(MutualInformation()(values, fixed.data, seen).mean())


def volume(image: Image) -> float:
    """What lies inside the mask, mm³; of slices, the area."""
    share = 1.0 if image.mask is None else float(image.mask.float().mean())
    return share * math.prod(
        s * n for s, n in zip(image.space.spacing.tolist(), image.space.shape, strict=True) if n > 1
    )


def _length(image: Image) -> float:
    """Standard deviation of the Gaussian autocorrelation, mm: the mean over axes by products; 0 if constant."""
    shape, found = image.space.shape, []
    for axis in (a for a, n in enumerate(shape) if n > 1):
        lines = tuple(slice(None, None, 1 if a == axis else max(1, n // _LINES)) for a, n in enumerate(shape))
        alike = _neighbours(
            image.data[0][:, *lines], None if image.mask is None else image.mask[0][:, *lines], axis + 1
        )
        if alike is None:
            return 0.0
        found.append(float(image.space.spacing[axis]) / math.sqrt(-2 * math.log(min(max(alike, _LEAST), _MOST))))
    return math.prod(found) ** (1 / len(found))


def _neighbours(values: Tensor, mask: Tensor | None, axis: int) -> float | None:
    """Correlation of neighbours along an axis of (C, *S) values, within a (1, *S) mask; None where nothing varies."""
    n = values.shape[axis]
    ends = values.narrow(axis, 0, n - 1), values.narrow(axis, 1, n - 1)
    chosen = None if mask is None else (mask.narrow(axis, 0, n - 1) & mask.narrow(axis, 1, n - 1)).expand_as(ends[0])
    first, second = (end.flatten() if chosen is None else end[chosen] for end in ends)
    if len(first) < 2:
        return None
    variance = float((torch.var(first) + torch.var(second)) / 2)
    return 1 - float((second - first).square().mean()) / (2 * variance) if variance > 0 else None
