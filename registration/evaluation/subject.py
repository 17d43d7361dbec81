"""What is known of one pair, and the figures that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..image import Image
from ..interpolate import Sampler, nearest
from ..transforms.base import Transform
from .figure import Figure
from .remembered import Remembered


@dataclass(frozen=True)
class Subject:
    """What is known of one pair and its result. Everything but the two images may be missing.

    Parameters
    ----------
    fixed, moving
        (1, 1, *S) images with their masks.
    transform, inverse
        Fixed RAS mm -> moving RAS mm, and the other way.
    warped
        The moving image on the fixed grid, as the program that registered it made it: used without ``transform``.
    fixed_labels, warped_labels
        (1, 1, *S) label maps on the fixed grid; without ``warped_labels`` the moving ones are warped.
    moving_labels
        (1, 1, *S) label map on any grid.
    points
        (N, D) fixed and moving landmarks, RAS mm.
    seconds
        What the registration took.
    label_sampler
        How labels are warped here, before as after.
    """

    fixed: Image
    moving: Image
    transform: Transform | None = None
    inverse: Transform | None = None
    warped: Image | None = None
    fixed_labels: Image | None = None
    moving_labels: Image | None = None
    warped_labels: Image | None = None
    points: tuple[Tensor, Tensor] | None = None
    seconds: float | None = None
    label_sampler: Sampler = nearest

    def remembered(self) -> Transform | None:
        """The transform, which keeps its values on the fixed grid."""
        return None if self.transform is None else Remembered.of(self.transform)


@dataclass
class Judgement:
    """The figures of a pair.

    Parameters
    ----------
    missing
        Label -> the image that does not have it (fixed, moving, or warped where no moving labels were given).
    lost
        Labels that both images have and the warped one has not: their overlap is 0, their surfaces have no distance.
    """

    figures: list[Figure] = field(default_factory=list)
    missing: dict[int, str] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)

    def add(self, when: str, values: Mapping[str, float | None], label: str = "") -> None:
        """Take further figures, metric -> value."""
        self.figures += [Figure(metric, label, when, value) for metric, value in values.items()]
