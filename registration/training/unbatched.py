"""From what a network says of a batch of one to a transform that can be kept."""

from __future__ import annotations

import torch

from ..space import Space
from ..transforms.base import Transform, parts_of
from ..transforms.diffeomorphism import Diffeomorphism
from ..transforms.field import DisplacementField, sample_field
from ..transforms.linear import Linear
from ..transforms.stacked import Stacked
from ..transforms.tps import ThinPlateSpline
from ..transforms.velocity import VelocityField
from .starts import upright


def unbatched(transform: Transform, space: Space, frame: Linear) -> Transform:
    """A transform of a batch of one, found in the upright frame of a grid, in the world of the grid.

    Parameters
    ----------
    transform
        Upright mm -> upright mm.
    space
        The grid in its world; flows are sampled on it, both ways.
    frame
        World mm -> upright mm, voxel by voxel.

    Raises
    ------
    ValueError
        If a part is of a kind that cannot be kept.
    """
    result: Transform = Linear.identity(space.ndim)
    for part in parts_of(transform):
        result = result @ _one(part, space, frame)
    return result


def _one(part: Transform, space: Space, frame: Linear) -> Transform:
    if isinstance(part, Stacked):
        part = part.items[0]
    if isinstance(part, VelocityField):
        here = upright(space)
        fields = [sample_field(way, here) for way in (part, part.inverse())]
        d = space.ndim
        turn = torch.linalg.inv(frame.matrix)[:d, :d].to(fields[0])
        # Voxels keep their places, so a field is only turned.
        there, back = (torch.einsum("ij,bj...->bi...", turn, f.reshape(1, d, *space.shape))[0] for f in fields)
        return Diffeomorphism(DisplacementField(there, space), DisplacementField(back, space))
    if isinstance(part, Linear):
        inner: Transform = Linear(part.matrix.reshape(part.matrix.shape[-2:]).detach())
    elif isinstance(part, ThinPlateSpline):
        targets = part.targets.reshape(part.targets.shape[-2:]).detach()
        inner = ThinPlateSpline(part.points.detach(), targets, part.smoothing, part.scale)
    else:
        raise ValueError(f"a {type(part).__name__} of a network cannot be kept")
    return frame.inverse() @ inner @ frame
