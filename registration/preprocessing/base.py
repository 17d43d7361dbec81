"""What a step of preprocessing is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..errors import InputError
from ..image import Image
from ..limits import is_number


class Step(ABC):
    """An image to an image, the same things at the same millimetres.

    Steps are frozen dataclasses of plain numbers and words, so that :meth:`config` is all there is to them: a step that
    learns from other images (:class:`MatchHistogram`) keeps what it learnt as numbers. They are written on
    :class:`Image`, not on arrays with metadata as MONAI's transforms are, because the grid, its affine and the mask
    must change together, in 2-D as in 3-D, and the same object serves training and ``register``.
    """

    @property
    def makes_mask(self) -> bool:
        """Whether images come out with a mask that had none."""
        return False

    @abstractmethod
    def __call__(self, image: Image) -> Image:
        """The image after this step.

        Raises
        ------
        InputError
            With the name of the image, if the step does not suit it.
        """

    def config(self) -> dict[str, Any]:
        """Plain values, ready for JSON, that make the same step."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def per_axis(values: float | Sequence[float], image: Image, what: str) -> tuple[float, ...]:
    """One number for each of the D axes of an image, from one for all or from D.

    Raises
    ------
    InputError
        If there are neither one nor D.
    """
    if isinstance(values, (int, float)):
        return (float(values),) * image.ndim
    if len(values) != image.ndim:
        raise InputError(
            image.name, f"has {image.ndim} axes {image.space.shape}, the {what} {list(values)} has {len(values)}",
            f"give the {what} as one number, or one per axis",
        )  # fmt: skip
    return tuple(float(v) for v in values)


def check_spacing(spacing: float | Sequence[float]) -> None:
    """Refuse what is no length in mm, or no sequence of such, with a :class:`ValueError`."""
    values = [spacing] if isinstance(spacing, (int, float)) else list(spacing)
    if not values or not all(is_number(v) and 0 < v < math.inf for v in values):
        raise ValueError(f"spacing is a positive length in mm, got {spacing}")
