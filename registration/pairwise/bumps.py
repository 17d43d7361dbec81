"""The lattice of a spline stage: which bumps of it stand near the object."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image import Image
from ..space import Space
from ..transforms.lattice_spline import LatticeSpline
from ..transforms.polyharmonic import LatticeBasis

_FEWEST = 4  # points of the coarsest lattice along an axis: two inside an object, one beyond it at either end
_ROUNDS = 15  # of conjugate gradients: the equations are well conditioned


@dataclass(frozen=True, eq=False)
class Bumps:
    """K points of a lattice near an object, where the bumps of a :class:`LatticeSpline` stand.

    Parameters
    ----------
    lattice
        Its voxel centres are the points of the lattice, the same number of mm apart along all axes.
    chosen
        (K,) which of them, as numbers in the flattened lattice.
    step
        Their distance, mm.
    """

    lattice: Space
    chosen: Tensor
    step: float

    @classmethod
    def near(cls, place: Image, across: int, most: int, closest: float = 0.0) -> Bumps:
        """About the mask of an image, ``across`` points along its longest side; fewer if there were more than ``most``.

        Points are never closer than ``closest`` mm, and are kept up to one step away from the mask.

        Raises
        ------
        ValueError
            If even the coarsest lattice about the object has more than ``most``.
        """
        assert place.mask is not None
        inside = place.mask[0, 0].nonzero().cpu()
        sides = (inside.amax(dim=0) - inside.amin(dim=0) + 1).double() * place.space.spacing
        step = max(float(sides.max()) / max(1, across - 1), closest)
        while True:
            found = cls._about(inside, place.space, step)
            if found.size <= most:
                return found
            if max(found.lattice.shape) == _FEWEST:
                raise ValueError(f"a spline has {found.size} control points about an object at least, more than {most}")
            step *= 1.05

    @classmethod
    def _about(cls, inside: Tensor, space: Space, step: float) -> Bumps:
        d = space.ndim
        low, high = inside.amin(dim=0).double() - 0.5, inside.amax(dim=0).double() + 0.5
        counts = [math.ceil(side) + 3 for side in ((high - low) * space.spacing / step).tolist()]
        affine = space.affine.clone()
        affine[:d, :d] = space.affine[:d, :d] / space.spacing * step
        middle = space.affine[:d, :d] @ ((low + high) / 2) + space.affine[:d, d]
        affine[:d, d] = middle - affine[:d, :d] @ ((torch.tensor(counts, dtype=torch.float64) - 1) / 2)
        to_lattice = torch.linalg.inv(affine) @ space.affine
        nearest = (inside.double() @ to_lattice[:d, :d].T + to_lattice[:d, d]).round().long()
        kept = torch.zeros(counts, dtype=torch.float32)
        kept[tuple(nearest.T)] = 1
        pool = F.max_pool2d if d == 2 else F.max_pool3d
        kept = pool(kept[None, None], 3, stride=1, padding=1)
        return cls(Space(tuple(counts), affine), kept.flatten().nonzero().flatten(), step)

    @property
    def ndim(self) -> int:
        return self.lattice.ndim

    @property
    def size(self) -> int:
        """Number of points K."""
        return len(self.chosen)

    def spread(self, values: Tensor) -> Tensor:
        """(K, D) -> (D, *M) on the whole lattice, zero elsewhere; differentiable."""
        whole = values.new_zeros(math.prod(self.lattice.shape), values.shape[1])
        whole = whole.index_copy(0, self.chosen.to(values.device), values)
        return whole.T.reshape(-1, *self.lattice.shape)

    def spline(self, coefficients: Tensor) -> LatticeSpline:
        """The spline of (K, D) coefficients, in steps of the lattice."""
        return LatticeSpline(self.spread(coefficients.double()) * self.step, self.lattice)

    def through(self, spline: LatticeSpline) -> Tensor:
        """(K, D) coefficients, in steps, of the spline here that moves the K points as another one does."""
        points = self.lattice.points(torch.zeros(0, dtype=torch.float64)).flatten(0, -2)[self.chosen]
        with torch.no_grad():
            goal = (spline(points) - points) / self.step
        basis = LatticeBasis(self.lattice, 1, 0, goal)

        def applied(values: Tensor) -> Tensor:
            return basis.spread(self.spread(values)).flatten(1)[:, self.chosen].T

        found, rest = torch.zeros_like(goal), goal.clone()
        direction, size = rest.clone(), float(rest.square().sum())
        enough = 1e-8 * size
        for _ in range(_ROUNDS):
            if not size > enough:
                break
            along = applied(direction)
            length = size / float((direction * along).sum())
            found += length * direction
            rest -= length * along
            before, size = size, float(rest.square().sum())
            direction = rest + size / before * direction
        return found
