"""The inverse of a diffeomorphism as a file for other programs."""

from __future__ import annotations

import os
from pathlib import Path

from ..space import Space
from ..transforms.base import Transform
from ..transforms.diffeomorphism import Diffeomorphism
from .chain import decode, encode
from .fields import SampledField
from .files import atomic_path
from .transforms import open_store, put_itk, split_linear
from .widened import covering


def write_inverse(path: str | os.PathLike[str], transform: Transform, fixed: Space) -> bool:
    """Write the inverse of a linear map after a diffeomorphism as an ITK composite (.h5), for other programs.

    Ours need no such file: a transform of that kind carries its inverse with it.

    Returns
    -------
    Whether the transform is of that kind; of any other nothing is written.
    """
    outer, inner = split_linear(decode(encode(covering(transform, fixed, both=True))))
    if not isinstance(inner, Diffeomorphism):
        return False
    back = inner.backward
    field = SampledField(back.displacement.movedim(0, -1).numpy(), back.space, {})
    with atomic_path(Path(path)) as temporary, open_store(temporary) as store:
        put_itk(store, outer.inverse(), field, field_last=True)
    return True
