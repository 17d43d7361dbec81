"""The time of a training: how long it has gone on, and what its time went into."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from .validation import settled

_T = TypeVar("_T")


class Clock:
    """Minutes over all parts of a training, and seconds of this part by what they went into.

    Parameters
    ----------
    fabric
        The Lightning Fabric of the training, which knows its device and its processes.
    """

    def __init__(self, fabric: Any) -> None:
        self.fabric = fabric
        self.seconds = dict.fromkeys(("data", "engine", "step", "update", "validation", "files"), 0.0)
        self.start(0.0)

    def start(self, minutes: float) -> None:
        """Let the minutes run on from those of earlier parts."""
        self._before, self._began = minutes, time.perf_counter()

    def here(self) -> float:
        """Minutes by the clock of this process."""
        return self._before + (time.perf_counter() - self._began) / 60

    def minutes(self) -> float:
        """Minutes by the clock of the first process: rates, and the pairs that come again, are the same in all."""
        return float(agreed(self.fabric, self.here()))

    def until(self, minutes: float | None, items: Iterable[_T]) -> Iterator[_T]:
        """Items one by one, as long as there are fewer minutes by the clock of this process; None for all items."""
        for item in items:
            if minutes is not None and self.here() >= minutes:
                return
            yield item

    @contextmanager
    def counting(self, name: str) -> Iterator[None]:
        """Count the seconds inside, but those that are counted under another name there."""
        began, others = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
            settled(self.fabric.device)
        finally:
            within = sum(self.seconds.values()) - others
            self.seconds[name] += time.perf_counter() - began - within


def agreed(fabric: Any, value: Any) -> Any:
    """What the first of all processes says, which decides for them; every process asks at the same point."""
    return fabric.broadcast(value) if fabric.world_size > 1 else value
