"""How values between voxels are found, by the words that options and settings use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError
from ..interpolate import Sampler, bspline, linear, nearest, vote
from .settings import choose

if TYPE_CHECKING:
    from omegaconf import DictConfig

SAMPLERS: dict[str, Sampler] = {"linear": linear, "nearest": nearest, "label": vote, "bspline": bspline}
FOR_LABELS = ("nearest", "label")
# What antsApplyTransforms and ANTsPy call the same, in small letters.
_OF_ANTS = {
    "genericlabel": "label", "genericlabel[linear]": "label", "nearestneighbor": "nearest", "linear": "linear",
    "bspline": "bspline", "bspline[3]": "bspline",
}  # fmt: skip
_KEY = "label_interpolation"


def sampler_named(name: str) -> Sampler:
    """The sampler of ``--interpolation``, which also takes the names of ANTs that mean the same.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name.lower().startswith("multilabel"):
        problem = "blurs every label before the vote, which is not done here"
        raise InputError(f"--interpolation {name}", problem, "label (genericLabel of ANTs) votes without")
    return SAMPLERS[choose("--interpolation ", _OF_ANTS.get(name.lower(), name), SAMPLERS)]


def label_interpolation(settings: DictConfig) -> str:
    """What the settings of ``register`` and ``batch`` call the interpolation of labels.

    Raises
    ------
    InputError
        If it is none of :data:`FOR_LABELS`.
    """
    return choose(f"{_KEY}=", str(settings.get(_KEY, FOR_LABELS[0])), FOR_LABELS)
