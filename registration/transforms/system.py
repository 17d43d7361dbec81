"""The equations of a thin-plate spline, solved once for fixed control points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .kernels import biharmonic


class Knots:
    """Where the kernels of a spline stand.

    Parameters
    ----------
    points
        (K, D) control points, fixed RAS mm.
    centre
        (D,) origin of the scaled coordinates, RAS mm.
    scale
        Length in mm that counts as 1.
    """

    def __init__(self, points: Tensor, centre: Tensor, scale: float) -> None:
        self.points, self.centre, self.scale = points, centre, scale
        self.kernel = biharmonic(points.shape[1])
        self.nodes = (points - centre) / scale
        """(K, D) scaled coordinates of the points."""

    @property
    def ndim(self) -> int:
        """Spatial dimension D."""
        return self.points.shape[1]

    @property
    def size(self) -> int:
        """Number of control points K."""
        return self.points.shape[0]

    def rows(self, points: Tensor) -> Tensor:
        """(..., N, K + D + 1) what the coefficients are multiplied by at (..., N, D) points in mm; float64."""
        x = self.scaled(points.to(torch.float64))
        phi = self.kernel.value(squared_distances(x, self.nodes.to(x)))
        return torch.cat([phi, torch.ones_like(x[..., :1]), x], dim=-1)

    def scaled(self, points: Tensor) -> Tensor:
        """(..., D) points in mm -> dimensionless coordinates about the centre."""
        return (points - self.centre.to(points)) / self.scale


class SplineSystem(Knots):
    """The factorised equations of a spline with fixed control points: every set of targets is then one quick solve.

    Parameters
    ----------
    points
        (K, D) control points, fixed RAS mm. May require a gradient, for which the scale counts as constant.
    smoothing
        Lambda >= 0: the weight of the bending against the squared distances to the targets, in scaled coordinates.
        0 interpolates; a large one tends to the affine least-squares fit.
    scale
        Length in mm that counts as 1; one for all axes, so that mm stay isotropic. Default: the RMS distance of the
        points from their mean.

    Raises
    ------
    ValueError
        If there are fewer than D+1 points, they lie in one plane (3-D) or line (2-D), two coincide with lambda = 0, or
        a number is not finite.
    """

    def __init__(self, points: Tensor, smoothing: float = 0.0, scale: float | None = None) -> None:
        if points.ndim != 2 or points.shape[-1] not in (2, 3):
            raise ValueError(f"control points have shape (K, 2) or (K, 3), got {tuple(points.shape)}")
        points = points.to(torch.float64)
        self.smoothing = float(smoothing)
        plain = points.detach()
        self._check_numbers(plain)
        centre = plain.mean(dim=0)
        rms = float((plain - centre).square().sum(dim=1).mean().sqrt())
        length = float(scale) if scale is not None else rms or 1.0
        if not (math.isfinite(length) and length > 0):
            raise ValueError(f"the scale is a positive length in mm, got {scale}")
        super().__init__(points, centre, length)
        r2 = squared_distances(self.nodes, self.nodes)
        self._check_layout(r2.detach())
        k, d = self.points.shape
        self.gram = self.kernel.value(r2)
        ridge = self.smoothing * torch.eye(k, dtype=torch.float64, device=points.device)
        affine = torch.cat([torch.ones_like(self.nodes[:, :1]), self.nodes], dim=1)
        top = torch.cat([self.gram + ridge, affine], dim=1)
        bottom = torch.cat([affine.T, affine.new_zeros(d + 1, d + 1)], dim=1)
        self._lu, self._pivots = torch.linalg.lu_factor(torch.cat([top, bottom]))

    def _check_numbers(self, points: Tensor) -> None:
        k, d = points.shape
        if k < d + 1:
            raise ValueError(f"a thin-plate spline in {d}-D needs at least {d + 1} control points, got {k}")
        if not bool(torch.isfinite(points).all()):
            rows = (~torch.isfinite(points)).any(dim=1).nonzero().flatten().tolist()
            raise ValueError(f"control points {rows[:5]} hold NaN or infinite coordinates")
        if not (math.isfinite(self.smoothing) and self.smoothing >= 0):
            raise ValueError(f"the smoothing weight lambda is finite and not negative, got {self.smoothing}")

    def _check_layout(self, r2: Tensor) -> None:
        k, d = self.points.shape
        spread = torch.linalg.svdvals(self.nodes.detach())
        if spread[-1] <= 1e-7 * spread[0]:
            flat = "plane" if d == 3 else "line"
            raise ValueError(
                f"the {k} control points lie in one {flat}, so the affine part of the spline is not determined: "
                f"add a point outside that {flat}"
            )
        if self.smoothing == 0:
            apart = r2 + torch.eye(k, dtype=r2.dtype, device=r2.device)
            closest = int(apart.argmin())
            if apart.flatten()[closest] < 1e-18:
                place = self.points[closest % k].tolist()
                raise ValueError(
                    f"control points {closest // k} and {closest % k} coincide at {place} mm; "
                    "remove one, or use a smoothing weight above 0"
                )

    def solve(self, values: Tensor) -> Tensor:
        """(..., K + D + 1, V) coefficients of (..., K, V) values at the control points, float64.

        First the K kernel weights, then the constant, then the D slopes, all in scaled coordinates.
        """
        zeros = values.new_zeros(*values.shape[:-2], self.ndim + 1, values.shape[-1], dtype=torch.float64)
        right = torch.cat([values.to(device=self._lu.device, dtype=torch.float64), zeros.to(self._lu.device)], dim=-2)
        return torch.linalg.lu_solve(self._lu, self._pivots, right)


def squared_distances(x: Tensor, nodes: Tensor) -> Tensor:
    """(..., N, K) squared distances of (..., N, D) and (K, D) points by differences.

    ``|x|^2 + |p|^2 - 2 x p`` would be one matrix product, but loses all digits near r = 0.
    """
    result: Tensor | None = None
    for axis in range(x.shape[-1]):
        apart = x[..., axis, None] - nodes[:, axis]
        result = apart * apart if result is None else result.addcmul_(apart, apart)
    assert result is not None
    return result
