"""The inverse of a diffeomorphism as a file for other programs."""

from __future__ import annotations

import os
from pathlib import Path

from ..space import Space
from ..transforms.base import Transform, parts_of
from ..transforms.diffeomorphism import Diffeomorphism
from ..transforms.linear import Linear
from .chain import decode, encode
from .fields import SampledField
from .files import atomic_path
from .transforms import open_store, put_itk, split_linear
from .widened import covering


def write_inverse(path: str | os.PathLike[str], transform: Transform, fixed: Space, moving: Space) -> bool:
    """Write the inverse of a linear map after or before a diffeomorphism as an ITK composite (.h5), for other programs.

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
    first, *rest = parts_of(transform)
    if isinstance(first, Diffeomorphism) and len(rest) == 1 and isinstance(rest[0], Linear):
        # What a symmetric run gives that took the moving image for the fixed one: its inverse begins with the field.
        outer, back, last = rest[0], _field(covering(first.inverse(), moving)).forward, False
    else:
        outer, inner = split_linear(decode(encode(covering(transform, fixed, both=True))))
        if not isinstance(inner, Diffeomorphism):
            return False
        back, last = inner.backward, True
    field = SampledField(back.displacement.movedim(0, -1).numpy(), back.space, {})
    with atomic_path(Path(path)) as temporary, open_store(temporary) as store:
        put_itk(store, outer.inverse(), field, field_last=last)
    return True


def _field(transform: Transform) -> Diffeomorphism:
    assert isinstance(transform, Diffeomorphism)
    return transform
