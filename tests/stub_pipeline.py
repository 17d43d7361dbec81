"""A pipeline that only shifts, so that the commands can be tested without waiting for an optimiser."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from registration.image import Image
from registration.pairwise.observe import Observer, StageReport
from registration.transforms.base import Transform
from registration.transforms.linear import Linear


@dataclass(frozen=True)
class Result:
    transform: Transform
    initial: Transform
    stages: tuple[StageReport, ...]


class Shift:
    """Moves by ``offset`` mm along the first world axis, or fails as it is told."""

    def __init__(self, offset: float = 0.0, fails: str | None = None) -> None:
        self.offset, self.fails = offset, fails
        if offset > 1000:
            raise ValueError(f"the offset is at most 1000 mm, got {offset}")

    def __call__(self, fixed: Image, moving: Image, initial: Transform | None, observer: Observer) -> Result:
        observer.stage("shift", 2)
        observer.step(2.0)
        if self.fails == "value":
            raise ValueError("the images\ndo not go together")
        if self.fails == "fault":
            raise KeyError("unforeseen")
        if self.fails == "interrupt":
            raise KeyboardInterrupt
        observer.step(1.0)
        offset = torch.zeros(fixed.ndim, dtype=torch.float64)
        offset[0] = self.offset
        start = initial or Linear.identity(fixed.ndim)
        report = StageReport("shift", 0.1, 2.0, float("nan"), 2)
        return Result(start @ Linear.translation(offset), start, (report,))
