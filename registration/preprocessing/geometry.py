"""Steps that change the grid: which way its axes run, how fine it is, how many voxels it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import torch
from torch import Tensor

from ..filters import gaussian
from ..image import Image
from ..interpolate import linear
from ..limits import is_whole
from ..space import Space, lattice
from .base import Step, check_spacing, per_axis

_AXES = ("RL", "AP", "SI")


@dataclass(frozen=True)
class Reorient(Step):
    """Permute and reverse the voxel axes so that they run towards given sides; no value is interpolated.

    Parameters
    ----------
    codes
        The sides the axes run to, such as RAS or LPI; an oblique axis counts for the side it is closest to. In 2-D the
        letter of the third world axis (S or I) is left out.
    """

    codes: str = "RAS"

    def __post_init__(self) -> None:
        if sorted(self._world(letter) for letter in self.codes.upper()) not in ([0, 1], [0, 1, 2]):
            raise ValueError(f"an orientation is three of the letters R or L, A or P, S or I, got {self.codes!r}")

    @staticmethod
    def _world(letter: str) -> int:
        return next((axis for axis, pair in enumerate(_AXES) if letter in pair), -1)

    def __call__(self, image: Image) -> Image:
        d, space = image.ndim, image.space
        letters = [letter for letter in self.codes.upper() if self._world(letter) < d]
        if len(letters) != d:
            raise ValueError(f"the orientation {self.codes} does not say where the third axis of {image.name} runs")
        directions = space.affine[:d, :d] / space.spacing
        rows = [self._world(letter) for letter in letters]
        order = max(
            permutations(range(d)),
            key=lambda o: sum(abs(float(directions[r, a])) for r, a in zip(rows, o, strict=True)),
        )
        to_old = torch.zeros(d + 1, d + 1, dtype=torch.float64)
        to_old[d, d] = 1
        reverse = []
        for new, (old, letter, row) in enumerate(zip(order, letters, rows, strict=True)):
            backwards = (float(directions[row, old]) > 0) != (letter == _AXES[row][0])
            to_old[old, new] = -1 if backwards else 1
            to_old[old, d] = space.shape[old] - 1 if backwards else 0
            reverse += [new + 2] if backwards else []
        shape = tuple(space.shape[old] for old in order)

        def moved(x: Tensor) -> Tensor:
            return x.permute(0, 1, *(old + 2 for old in order)).flip(reverse).contiguous()

        mask = None if image.mask is None else moved(image.mask)
        return replace(image, data=moved(image.data), space=Space(shape, space.affine @ to_old), mask=mask)


@dataclass(frozen=True)
class Resample(Step):
    """The same field of view at exactly the wanted spacing, antialiased where it becomes coarser.

    The number of voxels is the extent divided by the spacing, rounded, about the same centre; where half a voxel is
    added at the border the border value goes on.

    Parameters
    ----------
    spacing
        mm, one for all axes or D of them in the order of the voxel axes.
    """

    spacing: float | Sequence[float]

    def __post_init__(self) -> None:
        check_spacing(self.spacing)

    def __call__(self, image: Image) -> Image:
        wanted = torch.tensor(per_axis(self.spacing, image, "spacing"), dtype=torch.float64)
        space = image.space
        if bool(((wanted / space.spacing - 1).abs() < 1e-4).all()):
            return image
        onto = _with_spacing(space, wanted)
        factors = (wanted / space.spacing).tolist()
        sigma = [0.5 * math.sqrt(f * f - 1) if f > 1 else 0.0 for f in factors]
        grid = lattice(space.to_unit() @ onto.affine, onto.shape, image.data)[None]

        def sampled(x: Tensor) -> Tensor:
            blurred = gaussian(x, sigma)
            return torch.cat([linear(item[None], grid) for item in blurred])

        mask = None if image.mask is None else sampled(image.mask.to(image.data.dtype)) > 0.5
        return replace(image, data=sampled(image.data), space=onto, mask=mask)


def _with_spacing(space: Space, spacing: Tensor) -> Space:
    """The grid of this spacing, (D,) mm, about the same centre and nearest in extent."""
    d = space.ndim
    shape = [max(1, round(v)) for v in (space.extent / spacing).tolist()]
    affine = torch.eye(d + 1, dtype=torch.float64)
    affine[:d, :d] = space.affine[:d, :d] / space.spacing * spacing
    middle = (torch.tensor(shape, dtype=torch.float64) - 1) / 2
    affine[:d, d] = space.centre - affine[:d, :d] @ middle
    return Space(tuple(shape), affine)


@dataclass(frozen=True)
class CropOrPad(Step):
    """Cut or continue the image to a shape, about its middle voxel; new voxels repeat the border.

    Padding begins at ``(shape - size) // 2``, the way of the Learn2Reg 2020 hippocampus task.

    Parameters
    ----------
    shape
        Voxels, one number for all axes or D of them.
    mask_padding
        Whether the mask excludes new voxels even where the image came without a mask. A mask that is there never
        includes them.
    """

    shape: int | Sequence[int]
    mask_padding: bool = False

    def __post_init__(self) -> None:
        values = [self.shape] if isinstance(self.shape, int) else list(self.shape)
        if not values or not all(is_whole(v) and v > 0 for v in values):
            raise ValueError(f"shape is made of whole numbers of voxels from 1, got {self.shape}")

    @property
    def makes_mask(self) -> bool:
        return self.mask_padding

    def __call__(self, image: Image) -> Image:
        wanted = tuple(int(v) for v in per_axis(self.shape, image, "shape"))
        if wanted == image.space.shape:
            return image
        start = [(n - w) // 2 if n >= w else -((w - n) // 2) for n, w in zip(image.space.shape, wanted, strict=True)]
        data, mask = image.data, image.mask
        if mask is None and self.mask_padding:
            mask = torch.ones(1, 1, *image.space.shape, dtype=torch.bool, device=data.device)
        for axis, (first, count) in enumerate(zip(start, wanted, strict=True)):
            index = torch.arange(first, first + count, device=data.device)
            last = image.space.shape[axis] - 1
            inside = (index >= 0) & (index <= last)
            data = data.index_select(axis + 2, index.clamp(0, last))
            if mask is not None:
                view = [1] * data.ndim
                view[axis + 2] = count
                mask = mask.index_select(axis + 2, index.clamp(0, last)) & inside.reshape(view)
        return replace(image, data=data, space=image.space.cropped(start, wanted), mask=mask)
