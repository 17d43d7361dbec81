"""Where voxels lie in the patient: the conventions of the whole package, stated once.

* World coordinates are RAS+ millimetres, as in nibabel. LPS exists only in ``registration.io``.
* Tensors are ``(B, C, *S)``; spatial axis ``k`` of a tensor is voxel index ``k`` of its :class:`Space`.
* A transform maps **fixed world points to moving world points**: images are pulled back, points pushed forward.
* ``[-1, 1]`` and the axis reversal of ``grid_sample`` exist in one matrix, :meth:`Space.to_unit`. It follows
  ``align_corners=False``: -1 and 1 are the outer *edges* of the first and last voxel, so an axis of one
  voxel divides by nothing.

Letters in shapes: B batch, C channels, S spatial shape, D spatial dimension (2 or 3), N points.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class SpaceError(ValueError):
    """A shape and affine that do not describe a grid of voxels."""


@dataclass(frozen=True, eq=False)
class Space:
    """A grid of voxels in the world.

    Parameters
    ----------
    shape
        Voxels along each axis, D = 2 or 3 entries.
    affine
        (D+1, D+1) matrix from voxel index (voxel centres are integers) to RAS mm; kept on the CPU in float64.

    Raises
    ------
    SpaceError
        If the shape is empty, D is not 2 or 3, or the affine has the wrong size, is not finite or is singular.
    """

    shape: tuple[int, ...]
    affine: Tensor

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = torch.as_tensor(self.affine, dtype=torch.float64).detach().cpu().clone()
        d = len(shape)
        if d not in (2, 3):
            raise SpaceError(f"a grid needs 2 or 3 spatial axes, got {d}: {shape}")
        if min(shape) < 1:
            raise SpaceError(f"every axis needs at least one voxel, got {shape}")
        if affine.shape != (d + 1, d + 1):
            raise SpaceError(f"{d} spatial axes {shape} need a ({d + 1}, {d + 1}) affine, got {tuple(affine.shape)}")
        if not torch.isfinite(affine).all():
            raise SpaceError("the voxel-to-world affine holds NaN or infinite numbers")
        columns = affine[:d, :d].norm(dim=0)
        if columns.min() == 0 or torch.linalg.det(affine[:d, :d] / columns).abs() < 1e-6:
            rows = ", ".join("(" + ", ".join(f"{v:.4g}" for v in row) + ")" for row in affine[:d, :d].tolist())
            raise SpaceError(f"the voxel-to-world affine is singular, its rows are {rows}")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @staticmethod
    def regular(shape: Sequence[int], spacing: Sequence[float] | float = 1.0) -> Space:
        """A grid with axes along the world axes, centred on the world origin; ``spacing`` in mm."""
        d = len(shape)
        steps = torch.as_tensor(spacing, dtype=torch.float64).expand(d)
        affine = torch.eye(d + 1, dtype=torch.float64)
        affine[:d, :d] = torch.diag(steps)
        affine[:d, d] = -steps * (torch.tensor(shape, dtype=torch.float64) - 1) / 2
        return Space(tuple(shape), affine)

    # --- what it is -------------------------------------------------------------------------------------------------
    @property
    def ndim(self) -> int:
        """Spatial dimension D."""
        return len(self.shape)

    @property
    def spacing(self) -> Tensor:
        """(D,) distance between neighbouring voxel centres along each axis, mm."""
        return self.affine[: self.ndim, : self.ndim].norm(dim=0)

    @property
    def extent(self) -> Tensor:
        """(D,) length of the field of view along each axis, edge to edge, mm."""
        return self.spacing * torch.tensor(self.shape, dtype=torch.float64)

    @property
    def centre(self) -> Tensor:
        """(D,) centre of the field of view, RAS mm."""
        middle = (torch.tensor(self.shape, dtype=torch.float64) - 1) / 2
        return self.affine[: self.ndim, : self.ndim] @ middle + self.affine[: self.ndim, self.ndim]

    @property
    def radius(self) -> float:
        """Half the diagonal of the field of view, mm: the length that scales dimensionless parameters."""
        return float(self.extent.norm()) / 2

    def corners(self) -> Tensor:
        """(2**D, D) outer corners of the field of view (voxel edges), RAS mm."""
        ends = [(-0.5, n - 0.5) for n in self.shape]
        index = torch.tensor(list(itertools.product(*ends)), dtype=torch.float64)
        return index @ self.affine[: self.ndim, : self.ndim].T + self.affine[: self.ndim, self.ndim]

    def digest(self) -> str:
        """A short hash of shape and affine (to a nanometre), to recognise a grid in a file."""
        text = f"{self.shape} {[round(v, 6) + 0.0 for v in self.affine.flatten().tolist()]}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def same_as(self, other: Space, tolerance: float = 1e-3) -> bool:
        """Whether both have the same shape and no corner differs by more than ``tolerance`` voxels."""
        if self.shape != other.shape:
            return False
        return float((self.corners() - other.corners()).abs().max()) <= tolerance * float(self.spacing.min())

    def describe(self) -> str:
        """One line for messages: shape, spacing and centre."""
        shape = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{v:.4g}" for v in self.spacing.tolist())
        centre = ", ".join(f"{v:.4g}" for v in self.centre.tolist())
        return f"{shape} voxels of {spacing} mm, centre ({centre})"

    # --- coordinates ------------------------------------------------------------------------------------------------
    def points(self, like: Tensor | None = None) -> Tensor:
        """(*S, D) voxel centres in RAS mm, with the dtype and device of ``like`` (float32 on the CPU without)."""
        return lattice(self.affine, self.shape, torch.zeros(0, dtype=torch.float32) if like is None else like)

    def to_unit(self) -> Tensor:
        """(D+1, D+1) matrix from RAS mm to the coordinates of ``grid_sample(align_corners=False)``.

        The last axis of the tensor comes first, and the edges of the field of view are at -1 and 1.
        """
        d = self.ndim
        shape = torch.tensor(self.shape, dtype=torch.float64)
        unit = torch.eye(d + 1, dtype=torch.float64)
        unit[:d, :d] = torch.diag(2 / shape).flip(0)
        unit[:d, d] = (1 / shape - 1).flip(0)
        return unit @ torch.linalg.inv(self.affine)

    # --- other grids over the same patient --------------------------------------------------------------------------
    def resized(self, shape: Sequence[int]) -> Space:
        """The same field of view (edge to edge) cut into another number of voxels."""
        d = self.ndim
        ratio = torch.tensor(self.shape, dtype=torch.float64) / torch.tensor(tuple(shape), dtype=torch.float64)
        step = torch.eye(d + 1, dtype=torch.float64)
        step[:d, :d] = torch.diag(ratio)
        step[:d, d] = (ratio - 1) / 2
        return Space(tuple(shape), self.affine @ step)

    def with_spacing(self, spacing: float, split: float = 1.0) -> Space:
        """The same field of view at about ``spacing`` mm.

        No axis gets more than ``split`` times its voxels, so none is made finer than it is by default, and a slice
        stays one.
        """
        shape = [
            max(1, min(round(n * split) if n > 1 else 1, round(float(length) / spacing)))
            for n, length in zip(self.shape, self.extent.tolist(), strict=True)
        ]
        return self.resized(shape)

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> Space:
        """The grid whose voxel 0 is voxel ``start`` of this one; negative starts and longer shapes pad."""
        d = self.ndim
        shift = torch.eye(d + 1, dtype=torch.float64)
        shift[:d, d] = torch.tensor(tuple(start), dtype=torch.float64)
        return Space(tuple(shape), self.affine @ shift)


def lattice(matrix: Tensor, shape: Sequence[int], like: Tensor) -> Tensor:
    """Images of the integer lattice under an affine map, without building the lattice first.

    Parameters
    ----------
    matrix
        (..., D+1, D+1) map from voxel index to any coordinates; may carry a gradient.
    shape
        The lattice, *S.
    like
        Gives dtype and device of the result.

    Returns
    -------
    (..., *S, D) tensor: ``matrix @ index`` for every index.
    """
    d = len(shape)
    batch = matrix.shape[:-2]
    result: Tensor | None = None
    for axis, n in enumerate(shape):
        index = torch.arange(n, dtype=matrix.dtype, device=matrix.device)
        steps = index[:, None] * matrix[..., None, :d, axis]
        if axis == 0:
            steps = steps + matrix[..., None, :d, d]
        view = [1] * d
        view[axis] = n
        steps = steps.to(like).reshape(*batch, *view, d)
        result = steps if result is None else result + steps
    assert result is not None
    return result
