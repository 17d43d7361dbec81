"""One figure of a pair. Light, so that a table of them is read or written without loading what finds them."""

from __future__ import annotations

from dataclasses import dataclass

from .definitions import METRICS

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Figure:
    """One number of a pair; ``value`` is None where there is no evidence, ``label`` empty where it has none."""

    metric: str
    label: str
    when: str
    value: float | None

    @property
    def unit(self) -> str:
        """The unit, empty without."""
        return METRICS[self.metric].unit
