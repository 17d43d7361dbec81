"""The inverse of a diffeomorphism as a file for other programs."""

from __future__ import annotations

import os
from pathlib import Path

from ..space import Space
from ..transforms.base import Transform, parts_of
from ..transforms.diffeomorphism import Diffeomorphism
from ..transforms.linear import Linear
from .fields import SampledField
from .files import atomic_path
from .transforms import open_store, put_itk
from .widened import as_written


def write_inverse(path: str | os.PathLike[str], transform: Transform, fixed: Space, moving: Space) -> bool:
    """Write the inverse of a chain of linear maps and diffeomorphisms as an ITK composite (.h5), for other programs.

    Ours need no such file: a transform of that kind carries its inverse with it.

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm.
    fixed, moving
        The grids of the two images.

    Returns
    -------
    Whether the transform is of that kind; of any other nothing is written.
    """
    if not any(isinstance(part, Diffeomorphism) for part in parts_of(transform)):
        return False
    parts = parts_of(as_written(transform.inverse(), moving))
    if any(not isinstance(part, Linear | Diffeomorphism) for part in parts):
        return False
    steps = [part if isinstance(part, Linear) else _sampled(part) for part in parts]
    with atomic_path(Path(path)) as temporary, open_store(temporary) as store:
        put_itk(store, steps)
    return True


def _sampled(part: Transform) -> SampledField:
    assert isinstance(part, Diffeomorphism)
    return SampledField(part.forward.displacement.movedim(0, -1).numpy(), part.forward.space, {})
