"""The radial kernel of the thin-plate spline, by dimension.

The spline that bends least in D dimensions is built from the fundamental solution of the biharmonic equation (Duchon
1977, Wahba 1990): ``r**2 log r`` in 2-D and ``-r`` in 3-D, both 8 pi times that solution, signed so that they are
conditionally positive definite. All functions take squared distances, which stay differentiable where r = 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor

_TINY = 1e-30
"""Squared distances below this count as zero; its root is far below every coordinate's rounding, in float32 too."""

_DEGREE = 4


class Kernel(ABC):
    """A radial function of the squared distance r2, and its compact part.

    Attributes
    ----------
    taylor
        Coefficients of the polynomial that replaces the kernel within a radius of 1, about there.
    """

    taylor: tuple[float, ...]

    @abstractmethod
    def value(self, r2: Tensor) -> Tensor:
        """The kernel, any shape; its gradient is finite at r2 = 0."""

    @abstractmethod
    def value_(self, r2: Tensor) -> Tensor:
        """The kernel in the memory of ``r2``, without a gradient."""

    @abstractmethod
    def slope(self, r2: Tensor) -> Tensor:
        """d(kernel)/d(r2), any shape; finite at r2 = 0, where it is only ever multiplied by a zero distance."""

    @abstractmethod
    def near(self, r2: Tensor, radius: float) -> Tensor:
        """The compact part: zero from ``radius`` on, while ``value - near`` has 4 continuous derivatives everywhere.

        Inside the radius the kernel is replaced by its Taylor polynomial in r2 about ``radius**2``; ``near`` is what
        that leaves.
        """


class _Biharmonic2D(Kernel):
    """``r**2 log r``."""

    taylor = (0.0, 0.5, *(0.5 * (-1) ** j / (j * (j - 1)) for j in range(2, _DEGREE + 1)))

    def value(self, r2: Tensor) -> Tensor:
        return 0.5 * r2 * r2.clamp(min=_TINY).log()

    def value_(self, r2: Tensor) -> Tensor:
        r2 = r2.clamp_(min=_TINY)
        return r2.mul_(r2.log()).mul_(0.5)

    def slope(self, r2: Tensor) -> Tensor:
        return 0.5 * (r2.clamp(min=_TINY).log() + 1)

    def near(self, r2: Tensor, radius: float) -> Tensor:
        u = (r2 / radius**2).clamp_(max=1)
        rest = u.clamp(min=_TINY).log_().mul_(u).mul_(0.5)
        return rest.sub_(_horner(self.taylor, u.sub_(1))).mul_(radius**2)


class _Biharmonic3D(Kernel):
    """``-r``."""

    taylor = tuple(math.prod(0.5 - i for i in range(j)) / math.factorial(j) for j in range(_DEGREE + 1))

    def value(self, r2: Tensor) -> Tensor:
        return -r2.clamp(min=_TINY).sqrt()

    def value_(self, r2: Tensor) -> Tensor:
        return r2.clamp_(min=_TINY).sqrt_().neg_()

    def slope(self, r2: Tensor) -> Tensor:
        return -0.5 * r2.clamp(min=_TINY).rsqrt()

    def near(self, r2: Tensor, radius: float) -> Tensor:
        u = (r2 / radius**2).clamp_(max=1)
        rest = u.sqrt()
        return rest.sub_(_horner(self.taylor, u.sub_(1))).mul_(-radius)


def _horner(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """The polynomial with these coefficients, lowest degree first."""
    result = x * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        result.add_(c).mul_(x)
    return result.add_(coefficients[0])


def biharmonic(ndim: int) -> Kernel:
    """The kernel of the thin-plate spline in D = ``ndim`` dimensions."""
    return _Biharmonic2D() if ndim == 2 else _Biharmonic3D()
