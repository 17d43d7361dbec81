"""The inverse of a map that has no closed-form inverse."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from ..interpolate import linear
from ..space import Space
from .base import Transform
from .field import DisplacementField, sample_field
from .linear import Linear
from .newton import newton

_ROUNDS = 40
_PART = 1 << 17
_MANY = 1 << 20
_PROBES = 4096


class InversionError(ValueError):
    """A map that could not be inverted at some points, because it folds there or does not reach them."""


class InversionWarning(UserWarning):
    """Some points have no inverse; the nearest points found stand for it."""


class NumericalInverse(Transform):
    """Solves ``forward(x) = y`` for x.

    Points are solved by Newton's method with halved steps where a full step does not help (Ortega and Rheinboldt 1970),
    in float64. Whole grids start from fixed-point iterations on a sampled displacement field, and only points that are
    not good enough are solved on their own. One more Newton step, whose Jacobian counts as constant, carries the exact
    gradient to the points and to the parameters of the forward map.

    Parameters
    ----------
    forward
        The map to invert, fixed RAS mm -> moving RAS mm; then this one maps moving to fixed.
    tolerance
        Accepted distance |forward(x) - y|, mm.
    strict
        True raises :class:`InversionError` where a point misses the tolerance: nothing is silently wrong. False warns
        and returns the best found point there, which is what a display of a slightly folding map needs.

    Attributes
    ----------
    residual_mm
        (largest, mean) of |forward(x) - y| in the last call; over some thousands of voxels after :meth:`on_grid`.
    """

    def __init__(self, forward: Transform, tolerance: float = 1e-3, strict: bool = True) -> None:
        if not tolerance > 0:
            raise ValueError(f"the tolerance is a positive length in mm, got {tolerance}")
        self.forward, self.tolerance, self.strict = forward, float(tolerance), strict
        self.residual_mm: tuple[float, float] = (float("nan"), float("nan"))

    @property
    def ndim(self) -> int:
        return self.forward.ndim

    @property
    def batched(self) -> bool:
        return self.forward.batched

    def __call__(self, points: Tensor) -> Tensor:
        target = points.to(torch.float64)
        with torch.no_grad():
            found, distance = self._points(target, 1e-3 * self.tolerance)
            self._judge(distance, self.tolerance)
        if torch.is_grad_enabled():
            found = self._with_gradient(found, target)
        return found.to(points.dtype)

    def inverse(self) -> Transform:
        """The forward map itself."""
        return self.forward

    def residual(self, points: Tensor) -> Tensor:
        """(...) distances |forward(self(y)) - y| in mm at (..., D) points y, computed in float64."""
        target = points.to(torch.float64)
        return (self.forward(self(target)) - target).norm(dim=-1)

    def jacobian(self, points: Tensor) -> Tensor:
        """(..., D, D): the inverse of the forward Jacobian at the solution."""
        return torch.linalg.inv(self.forward.jacobian(self(points)))

    def _points(self, target: Tensor, goal: float) -> tuple[Tensor, Tensor]:
        """(..., D) solutions for points, and by how many mm they miss; many are worked on in parts, less hard."""
        d = self.ndim
        if not self.forward.batched and target.numel() > d * _MANY:
            found, distance = target.new_empty(target.shape).view(-1, d), target.new_empty(target.shape[:-1]).view(-1)
            for part in torch.arange(len(found)).split(_MANY):
                window = slice(int(part[0]), int(part[-1]) + 1)
                found[window], distance[window] = self._points(target.reshape(-1, d)[window], 0.1 * self.tolerance)
            return found.view(target.shape), distance.view(target.shape[:-1])
        start = 2 * target - self.forward(target)
        found = newton(self.forward, target.expand_as(start), start, goal)
        return found, self._distance(found, target)

    def _distance(self, found: Tensor, target: Tensor) -> Tensor:
        return (self.forward(found) - target).norm(dim=-1)

    def _with_gradient(self, found: Tensor, target: Tensor) -> Tensor:
        few = found[..., :1, :] if found.ndim > 1 else found
        if not (target.requires_grad or self.forward(few).requires_grad):
            return found
        miss = self.forward(found) - target
        slope = self.forward.jacobian(found).detach()
        return found - torch.linalg.solve(slope, (miss - miss.detach())[..., None])[..., 0]

    def _judge(self, distance: Tensor, accepted: float) -> None:
        """Note the residual; raise or warn where it misses the tolerance."""
        if distance.numel() == 0:
            return
        self.residual_mm = (float(distance.max()), float(distance.mean()))
        wrong = int((~(distance <= accepted)).sum())
        if wrong:
            text = (
                f"{wrong:,} of {distance.numel():,} points could not be mapped back within {accepted:.3g} mm "
                f"(worst {self.residual_mm[0]:.3g} mm): the map folds there or does not reach them"
            )
            if self.strict:
                raise InversionError(f"{text}; smooth it more, or accept the nearest points with strict=False")
            warnings.warn(f"{text}; the nearest points found stand there", InversionWarning, stacklevel=3)

    # --- grids ------------------------------------------------------------------------------------------------------
    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        """(*S, D) or (B, *S, D) images of all voxel centres, within the larger of ``tolerance`` and 0.02 voxel."""
        like = torch.zeros(0, dtype=torch.float32) if like is None else like
        d = self.ndim
        accepted = max(self.tolerance, 0.02 * float(space.spacing.min()))
        with torch.no_grad():
            target = space.points(like)[None]
            found, doubtful = self._by_field(space, target, accepted)
            shape = found.shape
            target, found = target.reshape(1, -1, d), found.reshape(shape[0], -1, d)
            chosen = doubtful.reshape(shape[0], -1).any(dim=0).nonzero().flatten()
            for part in chosen.split(_PART):
                found[:, part] = self._solve(target[:, part].double(), found[:, part].double()).to(found)
            self._check(target, found, chosen, accepted)
        if torch.is_grad_enabled():
            found = self._with_gradient(found if self.batched else found[0], target if self.batched else target[0])
        return found.reshape(shape if self.batched else shape[1:])

    def _solve(self, target: Tensor, found: Tensor) -> Tensor:
        """Newton's method for (1, N, D) targets and (B, N, D) starts."""
        if self.batched:
            return newton(self.forward, target.expand_as(found), found, 0.1 * self.tolerance)
        return newton(self.forward, target[0], found[0], 0.1 * self.tolerance)[None]

    def _by_field(self, space: Space, target: Tensor, accepted: float) -> tuple[Tensor, Tensor]:
        """Fixed-point iterations ``x <- y - u(x)`` on a sampled field, and (B, *S) where the result may be off."""
        if isinstance(self.forward, DisplacementField):
            field, off = self.forward, None
        else:
            wide = _widened(space, self.forward)
            field = DisplacementField(sample_field(self.forward, wide, target), wide)
            off = _interpolation_error(field)
        found, last = target, float("inf")
        doubtful = torch.ones(()) > 0
        for _ in range(_ROUNDS):
            step = target - field(found)
            found = found + step
            doubtful = step.abs().amax(dim=-1) > 0.1 * accepted
            size = float(step.abs().mean())
            if float(doubtful.float().mean()) < 1e-3 or size > 0.95 * last:
                break
            last = size
        if off is not None:
            grid = Linear(field.space.to_unit())(found)
            errors = off.to(found).expand(found.shape[0], *off.shape[1:])
            doubtful |= linear(errors, grid)[:, 0] > 0.5 * accepted
            doubtful |= grid.abs().amax(dim=-1) > 1
        return found, doubtful

    def _check(self, target: Tensor, found: Tensor, solved: Tensor, accepted: float) -> None:
        """Judge some thousands of points by the forward map itself: those solved singly, and some of all."""
        count = target.shape[1]
        parts = [torch.arange(0, count, max(1, count // _PROBES)), solved[:: max(1, len(solved) // _PROBES)].cpu()]
        index = torch.cat(parts).to(target.device)
        places, goals = found[:, index].double(), target[:, index].double()
        distance = self._distance(places, goals) if self.batched else self._distance(places[0], goals[0])
        self._judge(distance, accepted)


def _widened(space: Space, forward: Transform) -> Space:
    """The grid, padded as far as the inverse may reach, but at most by half its length at each end."""
    d = space.ndim
    few = space.resized([min(n, 16) for n in space.shape])
    moves = sample_field(forward, few, space.affine).movedim(-1 - d, -1).reshape(-1, d)
    voxels = (moves @ torch.linalg.inv(space.affine)[:d, :d].T).abs().amax(dim=0)
    pad = [min(int(v * 1.2) + 2, n // 2 + 2) for v, n in zip(voxels.tolist(), space.shape, strict=True)]
    return space.cropped([-p for p in pad], [n + 2 * p for n, p in zip(space.shape, pad, strict=True)])


def _interpolation_error(field: DisplacementField) -> Tensor:
    """(B, 1, *S) estimate in mm of what linear interpolation loses: an eighth of the second differences."""
    u = field.displacement if field.batched else field.displacement[None]
    d = field.ndim
    total = torch.zeros_like(u[:, :1])
    for axis in range(2, d + 2):
        n = u.shape[axis]
        if n > 2:
            bend = u.narrow(axis, 0, n - 2) + u.narrow(axis, 2, n - 2) - 2 * u.narrow(axis, 1, n - 2)
            total.narrow(axis, 1, n - 2).add_(bend.norm(dim=1, keepdim=True) / 8)
    pool = F.max_pool2d if d == 2 else F.max_pool3d
    return pool(total, 3, stride=1, padding=1)
