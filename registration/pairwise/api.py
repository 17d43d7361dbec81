"""One call from Python, without any settings file."""

from __future__ import annotations

from collections.abc import Sequence

from ..families.affine import Affine
from ..families.rigid import Rigid
from ..image import Image
from ..losses import LocalNormalisedCrossCorrelation, MutualInformation
from ..transforms.base import Transform
from .initialise import Auto, Initialiser
from .observe import Observer
from .pipeline import Pipeline, Result
from .splines import SplineLevel, SplineStage
from .stages import LinearStage, Stage


def register(
    fixed: Image,
    moving: Image,
    stages: Sequence[Stage] | None = None,
    initial: Initialiser | Transform | None = None,
    observer: Observer | None = None,
) -> Result:
    """Bring a moving image onto a fixed one.

    Parameters
    ----------
    fixed, moving
        (1, C, *S) images on any grids of one dimension; their masks restrict the alignment.
    stages
        What to do; rigid, affine, thin-plate spline by default (:func:`default_stages`).
    initial
        The first guess, or how to make it; :class:`Auto` by default.
    observer
        Watches the progress.

    Returns
    -------
    The :class:`Result`, whose ``transform`` maps fixed RAS mm -> moving RAS mm.

    Raises
    ------
    ValueError
        If the images do not go together, or the first guess leaves them without common field of view.
    """
    start = initial if isinstance(initial, Transform) else None
    guess = initial if isinstance(initial, Initialiser) else Auto()
    return Pipeline(guess, default_stages() if stages is None else stages)(fixed, moving, start, observer)


def default_stages() -> list[Stage]:
    """Rigid and affine by mutual information, then a thin-plate spline by local correlation."""
    information, correlation = MutualInformation(), LocalNormalisedCrossCorrelation(2)
    return [
        LinearStage("rigid", Rigid(), information, (8, 4)),
        LinearStage("affine", Affine(), information, (4, 2)),
        SplineStage("tps", correlation, [SplineLevel(8, 8), SplineLevel(4, 14), SplineLevel(2, 18)]),
    ]
