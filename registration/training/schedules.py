"""The learning rate as a function of progress alone: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod


class Schedule(ABC):
    """Progress of the training, 0 to 1 -> factor of the learning rate."""

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """The factor."""


class Constant(Schedule):
    """Always 1."""

    def __call__(self, progress: float) -> float:
        return 1.0


class Cosine(Schedule):
    """A straight rise, then half a cosine down (Loshchilov and Hutter 2017, arXiv 1608.03983).

    Parameters
    ----------
    warmup
        Share of the training in which the rate rises.
    final
        Factor at the end.
    """

    def __init__(self, warmup: float = 0.02, final: float = 0.01) -> None:
        if not (0 <= warmup < 1 and 0 <= final <= 1):
            raise ValueError(f"warmup is a share below 1 and final a factor from 0 to 1, got {warmup} and {final}")
        self.warmup, self.final = float(warmup), float(final)

    def __call__(self, progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        rest = (progress - self.warmup) / (1 - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * rest))


class Flat(Schedule):
    """A straight rise, then 1, then a straight fall to ``final``: the fall can be short.

    Parameters
    ----------
    warmup, fall
        Shares of the training in which the rate rises and falls.
    final
        Factor at the end.
    """

    def __init__(self, warmup: float = 0.02, fall: float = 0.3, final: float = 0.01) -> None:
        if not (warmup >= 0 and fall >= 0 and warmup + fall <= 1 and 0 <= final <= 1):
            raise ValueError(f"warmup and fall are shares of 1 in all, final a factor, got {warmup}, {fall}, {final}")
        self.warmup, self.fall, self.final = float(warmup), float(fall), float(final)

    def __call__(self, progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        rising = progress / self.warmup if progress < self.warmup else 1.0
        left = (1 - progress) / self.fall if progress > 1 - self.fall else 1.0
        return max(rising, 1e-3) * (self.final + (1 - self.final) * left)
