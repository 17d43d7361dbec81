"""What drives the fields of the diffeomorphic stage: how the similarity of two images changes when both are moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..compiled import Region
from ..filters import gradient_magnitude
from ..losses.base import Held, Similarity
from . import voxelfields as vf
from .middle import Middle

_NOTHING = 1e-30
_AT_ONCE = 1 << 21  # voxels whose gradient is taken at once: it needs several times their room


@dataclass(frozen=True, eq=False)
class Source:
    """An image that a field reads.

    Parameters
    ----------
    channels
        (C, X, Y, Z) values.
    matrix
        (3, 4) map from voxels of the middle space, once moved by the field, to voxels of the image; float64 on the CPU.
    """

    channels: Tensor
    matrix: Tensor


class Forces:
    """What the similarity of two images does to the fields of a middle space.

    Parameters
    ----------
    similarity
        For voxels of the middle space.
    fixed, moving
        The images of the level.
    middle
        The fields, which may move between calls.
    region
        Where to look.
    """

    def __init__(self, similarity: Similarity, fixed: Source, moving: Source, middle: Middle, region: Region) -> None:
        self.similarity, self.middle, self.region = similarity, middle, region
        self.fixed, self.moving = fixed, moving
        shape = middle.phi_m.shape[1:]
        sides = fixed.channels, moving.channels
        self.warped = [image.new_zeros(len(image), *shape, dtype=torch.float32) for image in sides]
        factors = 1 / middle.stretch
        # A slice looks the same when moved along its only voxel: the other image alone would drive it out of view.
        thin = torch.tensor([n == 1 for n in moving.channels.shape[1:]])
        factors[moving.matrix[thin, :3].abs().argmax(dim=1)] = 0
        self.metric = factors.tolist()[3 - middle.fixed.ndim :]

    def push(self, out: Tensor, shift: float = 0.0, sign: float = 1.0) -> float:
        """The loss; adds its derivative to opposite moves of both fields, times ``sign``, to ``out`` (3, X, Y, Z).

        ``shift`` puts the moving field out of place by so many voxels of the finest axis, along every axis.
        """
        fixed, moving = self.seen(shift)
        space = self.middle.fixed.space
        target = out[3 - space.ndim :].view(-1, *space.shape)
        return self.similarity.push(moving, fixed, self.region, [sign * factor for factor in self.metric], target)

    def seen(self, shift: float = 0.0) -> tuple[Tensor, Tensor]:
        """(1, C, *S) the fixed and the moving image as the fields read them, until they are read again."""
        middle, space = self.middle, self.middle.fixed.space
        used = torch.tensor([n > 1 for n in middle.phi_m.shape[1:]])
        matrix = self.moving.matrix.clone()
        matrix[:, 3] += matrix[:, :3] @ torch.where(used, shift / middle.stretch, 0).to(matrix)
        vf.pull(self.fixed.channels, self.fixed.matrix, middle.phi_f, self.warped[0], self.region.rows)
        vf.pull(self.moving.channels, matrix, middle.phi_m, self.warped[1], self.region.rows)
        fixed, moving = (image.view(1, -1, *space.shape) for image in self.warped)
        return fixed, moving

    def held(self) -> Held:
        """What the similarity knows of the whole."""
        fixed, moving = self.seen()
        return self.similarity.held(moving, fixed, self.region)

    def now(self) -> Tensor:
        """(3, X, Y, Z) the derivative."""
        found = torch.zeros_like(self.middle.phi_m)
        self.push(found)
        return found

    def clear(self, now: Tensor, shift: float = 0.5) -> float:
        """How long derivatives are that mean something: by how much half a voxel out of place changes those of now.

        A mean that weighs by length: edges decide, however much background or noise there is beside them.
        """
        change = now.clone()
        self.push(change, shift, -1.0)
        squares = change.square_().sum(dim=0)
        del change  # the sums take copies
        total = float(squares.sum(dtype=torch.float64))
        return total / max(float(squares.sqrt_().sum(dtype=torch.float64)), _NOTHING)


def steepness(data: Tensor, spacing: Sequence[float], out: Tensor) -> None:
    """Write the length of the gradient of (B, C, *S) data per mm, slab by slab: an image may be as large as a field."""
    n = data.shape[2]
    rows = max(1, _AT_ONCE * n // data.numel())
    for start in range(0, n, rows):
        low, high = max(0, start - 1), min(n, start + rows + 1)
        found = gradient_magnitude(data[:, :, low:high], spacing)
        stop = min(n, start + rows)
        out[:, :, start:stop] = found[:, :, start - low : stop - low]
