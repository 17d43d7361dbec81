"""Where the control points of a spline family stand in the fixed domain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..limits import check_above, check_counts
from ..space import Space


class Layout(ABC):
    """Chooses control points for a fixed domain."""

    @abstractmethod
    def __call__(self, domain: Space) -> Tensor:
        """(K, D) control points, fixed RAS mm, float64."""


class Given(Layout):
    """These (K, D) points, fixed RAS mm, whatever the domain."""

    def __init__(self, points: Tensor) -> None:
        self.points = points.to(torch.float64)

    def __call__(self, domain: Space) -> Tensor:
        if self.points.shape[-1] != domain.ndim:
            raise ValueError(f"control points in {self.points.shape[-1]}-D do not fit a {domain.ndim}-D domain")
        return self.points


class Lattice(Layout):
    """A regular lattice from edge to edge of the domain, its axes those of the voxels.

    Parameters
    ----------
    spacing
        Distance of neighbouring points, mm; shortened so that the outermost points lie on the edges of the field of
        view.
    counts
        Points along each axis, instead of ``spacing``; at least two, as a flat lattice determines no spline.
    """

    def __init__(self, spacing: float | None = None, counts: Sequence[int] | None = None) -> None:
        if (spacing is None) == (counts is None):
            raise ValueError(f"give the spacing in mm or the counts per axis, one of them: got {spacing} and {counts}")
        if spacing is not None:
            check_above(spacing=spacing)
        for count in () if counts is None else counts:
            check_counts(2, counts=count)
        self.spacing, self.counts = spacing, None if counts is None else tuple(int(count) for count in counts)

    def shape(self, domain: Space) -> tuple[int, ...]:
        """Points along each axis of this domain."""
        if self.counts is None:
            assert self.spacing is not None
            return tuple(max(2, -int(-length // self.spacing) + 1) for length in domain.extent.tolist())
        if len(self.counts) != domain.ndim:
            raise ValueError(f"counts {self.counts} do not fit a {domain.ndim}-D domain")
        return self.counts

    def nodes(self, domain: Space) -> Tensor:
        """(*counts, D) lattice points, fixed RAS mm, float64."""
        lines = [
            torch.linspace(-0.5, n - 0.5, m, dtype=torch.float64)
            for n, m in zip(domain.shape, self.shape(domain), strict=True)
        ]
        index = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1)
        d = domain.ndim
        return index @ domain.affine[:d, :d].T + domain.affine[:d, d]

    def __call__(self, domain: Space) -> Tensor:
        return self.nodes(domain).reshape(-1, domain.ndim)


class LatticeNear(Layout):
    """The points of a lattice in the surroundings of a mask, and the corners of the domain, which hold the affine part.

    Parameters
    ----------
    lattice
        The full lattice.
    mask
        (*M) or (1, 1, *M); nonzero is inside.
    space
        The grid of the mask.
    margin
        How far around the mask points are kept, in steps of the lattice (rounded to whole steps).
    """

    def __init__(self, lattice: Lattice, mask: Tensor, space: Space, margin: int = 1) -> None:
        self.mask = mask.detach().cpu().reshape(space.shape) != 0
        if not bool(self.mask.any()):
            raise ValueError(f"the mask of {space.describe()} is empty: no control points lie near it")
        self.lattice, self.space, self.margin = lattice, space, int(margin)

    def __call__(self, domain: Space) -> Tensor:
        d, shape = domain.ndim, torch.tensor(self.lattice.shape(domain))
        inside = self.mask.nonzero().to(torch.float64)
        to_index = torch.linalg.inv(domain.affine) @ self.space.affine
        voxel = inside @ to_index[:d, :d].T + to_index[:d, d]
        cells = torch.tensor(domain.shape, dtype=torch.float64) / (shape - 1)
        nearest = ((voxel + 0.5) / cells).round().long()
        nearest = nearest[((nearest >= 0) & (nearest < shape)).all(dim=1)]
        kept = torch.zeros(tuple(shape.tolist()), dtype=torch.float64)
        kept[tuple(nearest.T)] = 1
        pool = F.max_pool2d if d == 2 else F.max_pool3d
        kept = pool(kept[None, None], 2 * self.margin + 1, stride=1, padding=self.margin)[0, 0]
        kept[tuple(slice(None, None, n - 1) for n in shape.tolist())] = 1
        return self.lattice.nodes(domain)[kept > 0]
