"""How values between voxels are found, by the words that options and settings use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..interpolate import Sampler, bspline, linear, nearest, vote
from .settings import choose

if TYPE_CHECKING:
    from omegaconf import DictConfig

SAMPLERS: dict[str, Sampler] = {"linear": linear, "nearest": nearest, "label": vote, "bspline": bspline}
FOR_LABELS = ("nearest", "label")
_KEY = "label_interpolation"


def label_interpolation(settings: DictConfig) -> str:
    """What the settings of ``register`` and ``batch`` call the interpolation of labels.

    Raises
    ------
    InputError
        If it is none of :data:`FOR_LABELS`.
    """
    return choose(f"{_KEY}=", str(settings.get(_KEY, FOR_LABELS[0])), FOR_LABELS)
