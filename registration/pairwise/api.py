"""One call from Python, without any settings file."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import check_types
from ..image import Image
from ..transforms.base import Transform
from . import presets
from .initialise import Auto, Initialiser
from .observe import Observer
from .pipeline import Pipeline, Result
from .stages import Stage
from .terms import Term


def register(
    fixed: Image,
    moving: Image,
    stages: Sequence[Stage] | None = None,
    initial: Initialiser | Transform | None = None,
    observer: Observer | None = None,
    terms: Sequence[Term] = (),
) -> Result:
    """Bring a moving image onto a fixed one.

    Parameters
    ----------
    fixed, moving
        (1, C, *S) images on any grids of one dimension; their masks restrict the alignment.
    stages
        What to do, such as ``presets.fast().affine()``; by default ``presets.default().diffeomorphic()``: rigid,
        affine, a coarse spline, then a smooth invertible field.
    initial
        The first guess, or how to make it; :class:`Auto` by default.
    observer
        Watches the progress.
    terms
        What guides the alignment beside the similarity: :class:`LabelOverlap`, :class:`Landmarks`.

    Returns
    -------
    The :class:`Result`, whose ``transform`` maps fixed RAS mm -> moving RAS mm. Whether it can be believed says
    :func:`registration.judge_result`.

    Raises
    ------
    TypeError
        If an image is none, such as a file name, or what shall be the first guess.
    ValueError
        If the images do not go together, or the first guess leaves them without common field of view.
    """
    if initial is not None and not isinstance(initial, Initialiser):
        check_types(Transform, "registration.read_transform(path)[0] reads one from a file", initial=initial)
    start = initial if isinstance(initial, Transform) else None
    guess = initial if isinstance(initial, Initialiser) else Auto()
    pipeline = Pipeline(guess, default_stages() if stages is None else stages, symmetric=stages is None)
    return pipeline(fixed, moving, start, observer, terms)


def default_stages() -> list[Stage]:
    """Rigid, affine, a coarse thin-plate spline, then a diffeomorphism: as the command does without options."""
    return presets.default().diffeomorphic()
