"""A list of steps as a value: called on images, kept in checkpoints, recognised by a hash."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..image import Image
from ..sampling import nearest, warp
from ..space import Space
from ..transforms.linear import Linear
from .base import Step
from .geometry import CropOrPad, Reorient, Resample
from .intensity import MatchHistogram, RobustScale
from .masks import ApplyMask, BiasCorrection, ForegroundMask
from .shrink import Shrink

_KINDS: dict[str, type[Step]] = {
    kind.__name__: kind
    for kind in (
        ApplyMask,
        BiasCorrection,
        CropOrPad,
        ForegroundMask,
        MatchHistogram,
        Reorient,
        Resample,
        RobustScale,
        Shrink,
    )
}


class Pipeline:
    """Steps one after another.

    World positions never change, so transforms and landmarks found after preprocessing hold for the images as they
    were. Label maps do not go through the steps: :func:`carry_labels` brings them to the final grid in one go, so that
    nearest-voxel errors do not pile up.

    Parameters
    ----------
    steps
        By name, in order; None leaves a name out, which is how settings switch a step off. Or without names.

    Examples
    --------
    >>> pipeline = Pipeline([Reorient("RAS"), CropOrPad(64), RobustScale()])
    >>> Pipeline.from_config(pipeline.config()).digest() == pipeline.digest()
    True
    """

    def __init__(self, steps: Mapping[str, Step | None] | Sequence[Step] = ()) -> None:
        if not isinstance(steps, Mapping):
            steps = {f"{number}-{type(step).__name__}": step for number, step in enumerate(steps, 1)}
        self.steps: dict[str, Step] = {str(name): step for name, step in steps.items() if step is not None}

    def __call__(self, image: Image) -> Image:
        """The preprocessed image; errors name the image.

        Raises
        ------
        InputError
            If a step does not suit the image.
        """
        for name, step in self.steps.items():
            try:
                image = step(image)
            except InputError:
                raise
            except ValueError as error:
                raise InputError(image.name, f"the preprocessing step {name} refuses it: {error}") from error
        return image

    @property
    def makes_masks(self) -> bool:
        """Whether images come out with a mask that had none."""
        return any(step.makes_mask for step in self.steps.values())

    def config(self) -> dict[str, dict[str, Any]]:
        """Plain values, ready for JSON: by name of the step its kind and settings, in order."""
        return {name: {"kind": type(step).__name__, **step.config()} for name, step in self.steps.items()}

    @staticmethod
    def from_config(config: Mapping[str, Mapping[str, Any]]) -> Pipeline:
        """The pipeline of :meth:`config`. Only the steps of this package are made, whatever the values say.

        Raises
        ------
        InputError
            If a kind or a setting is unknown or has no possible value.
        """
        return Pipeline({name: _step(name, values) for name, values in config.items()})

    def digest(self) -> str:
        """A short hash of the configuration, to recognise what was made by the same steps."""
        text = json.dumps(list(self.config().items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _step(name: str, values: Mapping[str, Any]) -> Step:
    where = f"preprocessing step {name}"
    if not isinstance(values, Mapping) or values.get("kind") not in _KINDS:
        kind = values.get("kind") if isinstance(values, Mapping) else values
        close = difflib.get_close_matches(str(kind), _KINDS, n=1) or [", ".join(_KINDS)]
        raise InputError(where, f"there is no step {kind}", f"did you mean {close[0]}?")
    settings = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key != "kind"}
    try:
        return _KINDS[values["kind"]](**settings)
    except (TypeError, ValueError) as error:
        raise InputError(where, str(error).replace(".__init__()", "")) from error


def carry_labels(labels: Image, onto: Space) -> Image:
    """A label map on the grid of a preprocessed image: the nearest voxel at the same place, 0 outside.

    Raises
    ------
    InputError
        If the two differ in dimension.
    """
    if labels.ndim != onto.ndim:
        raise InputError(
            labels.name,
            f"has {labels.ndim} axes {labels.space.shape}, its image has {onto.ndim}",
            "give matching files",
        )
    return warp(labels, Linear.identity(onto.ndim), onto, nearest)[0]
