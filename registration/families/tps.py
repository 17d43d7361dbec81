"""Thin-plate splines with fixed control points: the parameters are the displacements there."""

from __future__ import annotations

from torch import Tensor

from ..limits import check_sizes
from ..space import Space
from ..transforms.tps import SplineSystem, ThinPlateSpline
from .base import Family
from .lattices import Layout


class ThinPlateSplines(Family):
    """``targets = points + domain.radius * parameters``, with P = K D parameters ordered as (K, D).

    Parameters
    ----------
    layout
        Where the control points stand: ``Lattice(spacing=20)``, ``LatticeNear(...)`` a mask, or ``Given(points)``.
    smoothing
        The weight lambda of :class:`SplineSystem`.
    """

    def __init__(self, layout: Layout, smoothing: float = 0.0) -> None:
        check_sizes(smoothing=smoothing)
        self.layout, self.smoothing = layout, float(smoothing)
        self._last: tuple[Space, SplineSystem] | None = None

    def size(self, domain: Space) -> int:
        return self.system(domain).points.numel()

    def system(self, domain: Space) -> SplineSystem:
        """The factorised equations over this domain; those of the last domain are remembered."""
        if self._last is None or not (self._last[0] is domain or self._last[0].same_as(domain, tolerance=0)):
            self._last = (domain, SplineSystem(self.layout(domain), self.smoothing))
        return self._last[1]

    def __call__(self, parameters: Tensor, domain: Space) -> ThinPlateSpline:
        theta = self.check(parameters, domain)
        system = self.system(domain)
        moves = theta.reshape(*theta.shape[:-1], system.size, system.ndim) * domain.radius
        points = system.points.to(theta.device)
        return ThinPlateSpline(points, points + moves, system=system)
