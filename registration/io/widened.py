"""Diffeomorphisms on grids that cover the images: ITK leaves points outside the grid of a field where they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..space import Space
from ..transforms.base import Transform, compose, parts_of
from ..transforms.diffeomorphism import Diffeomorphism
from ..transforms.field import DisplacementField
from .chain import decode, encode

_MOST = 3.0  # times the voxels of the larger of both grids: a wider one is not worth its place


def covering(transform: Transform, domain: Space, both: bool = False) -> Transform:
    """The same map; a diffeomorphism that comes first in it gets a field whose grid covers the domain, or two.

    Outside its grid a field has the displacement of its border; repeating the border changes nothing.
    """
    *rest, first = parts_of(transform)
    if not isinstance(first, Diffeomorphism):
        return transform
    backward = _wider(first.backward, domain) if both else first.backward
    result: Transform = Diffeomorphism(_wider(first.forward, domain), backward)
    for part in reversed(rest):
        result = compose(part, result)
    return result


def as_written(transform: Transform, domain: Space) -> Transform:
    """The map that a file will hold: a diffeomorphism is rounded by a hundredth of a voxel, all else is exact."""
    if not isinstance(parts_of(transform)[-1], Diffeomorphism):
        return transform
    return decode(encode(covering(transform, domain)))


def _wider(field: DisplacementField, domain: Space) -> DisplacementField:
    d = field.ndim
    if field.still_outside or field.batched:
        return field
    to_index = torch.linalg.inv(field.space.affine)
    corners = domain.corners() @ to_index[:d, :d].T + to_index[:d, d]
    shape = torch.tensor(field.space.shape)
    below = (-corners.amin(dim=0)).ceil().long().clamp(min=0)
    above = (corners.amax(dim=0).ceil().long() - (shape - 1)).clamp(min=0)
    single = shape == 1
    below[single], above[single] = 0, 0
    wide = shape + below + above
    if float(wide.prod()) > _MOST * max(float(shape.prod()), float(torch.tensor(domain.shape).prod())):
        return field
    pad = [n for axis in reversed(range(d)) for n in (int(below[axis]), int(above[axis]))]
    values = F.pad(field.displacement[None], pad, mode="replicate")[0] if any(pad) else field.displacement
    return DisplacementField(values, field.space.cropped((-below).tolist(), wide.tolist()))
