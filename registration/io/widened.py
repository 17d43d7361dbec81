"""Diffeomorphisms on grids that cover the images: ITK leaves points outside the grid of a field where they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..space import Space
from ..transforms.base import Transform, compose, parts_of
from ..transforms.diffeomorphism import Diffeomorphism
from ..transforms.field import DisplacementField
from ..transforms.linear import Linear
from .chain import decode, encode

_MOST = 3.0  # times the voxels of the larger of both grids: a wider one is not worth its place


def covering(transform: Transform, domain: Space) -> Transform:
    """The same map; a diffeomorphism that comes first in it, or after a linear map, gets a field over the whole domain.

    Outside its grid a field has the displacement of its border; repeating the border changes nothing.
    """
    parts = list(parts_of(transform))
    before = parts.pop() if len(parts) > 1 and isinstance(parts[-1], Linear) else Linear.identity(transform.ndim)
    field = parts[-1]
    if not isinstance(field, Diffeomorphism):
        return transform
    result = Diffeomorphism(_wider(field.forward, reader(before, domain)), field.backward) @ before
    for part in reversed(parts[:-1]):
        result = compose(part, result)
    return result


def reader(before: Transform, domain: Space) -> Space:
    """The grid on which a field is read that comes after a linear map: a domain, moved by the map."""
    if not isinstance(before, Linear) or before.is_identity():
        return domain
    return Space(domain.shape, before.matrix.detach().double().cpu() @ domain.affine)


def as_written(transform: Transform, domain: Space) -> Transform:
    """The map that a file will hold: a diffeomorphism is rounded by a hundredth of a voxel, all else is exact."""
    if not any(isinstance(part, Diffeomorphism) for part in parts_of(transform)):
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
