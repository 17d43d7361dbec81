"""Our own group of a transform file: written as of this version, read as of earlier ones too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..space import Space
from ..transforms.base import Transform
from .chain import Record, decode, space_arrays, space_from
from .packing import get_array, get_text, put_text
from .stored import get_record, put_record

FORMAT = 3
"""Number of the layout: 1 held every number as it is, 2 rounded fields, 3 holds those as differences of neighbours.

Some files that call themselves 2 hold differences already; which, their checksum tells.
"""

_DIRECTION = (
    "maps points of the fixed image to points of the moving image: images are pulled back (moving to fixed), "
    "points are pushed forward (fixed to moving); world RAS mm in the group 'registration', LPS mm in 'TransformGroup'"
)


@dataclass(frozen=True)
class TransformInfo:
    """What a transform file says beside the transform.

    Parameters
    ----------
    path
        The file.
    exact
        Whether the parametric chain itself was read, rather than a sampled form of it.
    fixed, moving
        The grids the transform was made for, where known.
    field_error
        Distances in mm of the sampled field from the chain (see :class:`registration.io.fields.SampledField`).
    provenance
        Version, arguments, seed, input hashes: whatever was given to :func:`write_transform`.
    notices
        What was decided while reading.
    """

    path: Path
    exact: bool
    fixed: Space | None = None
    moving: Space | None = None
    field_error: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def put_own(
    store: Any, record: Record, grids: tuple[Space, Space], error: Mapping[str, float], provenance: Mapping[str, Any]
) -> None:
    """Write the group ``registration`` into an open file.

    Parameters
    ----------
    record
        The exact chain, fixed RAS mm -> moving RAS mm.
    grids
        Of the fixed and the moving image.
    error
        Distances in mm of the sampled field from the chain.
    provenance
        Anything JSON can say.
    """
    group = store.create_group("registration")
    group.attrs["format"] = FORMAT
    put_text(group, "direction", _DIRECTION)
    put_text(group, "digest", record.digest())
    group.create_dataset("provenance", data=np.bytes_(json.dumps(provenance, default=str).encode()))
    put_record(group.create_group("chain"), record)
    for name, space in zip(("fixed", "moving"), grids, strict=True):
        grid = group.create_group(name)
        put_text(grid, "digest", space.digest())
        for key, values in space_arrays(space).items():
            grid.create_dataset(key, data=values)
    group.create_group("field_error").attrs.update(error)


def read_own(file: Path, group: Any) -> tuple[Transform, TransformInfo]:
    """The exact chain and what else the group ``registration`` holds.

    Raises
    ------
    InputError
        If the group is damaged, or of a version that cannot be read.
    """
    try:
        transform = _chain(file, group)
        grids = []
        for name in ("fixed", "moving"):
            grid = group[name]
            space = space_from({key: get_array(file, grid, key) for key in ("shape", "affine")})
            if get_text(grid, "digest") != space.digest():
                raise InputError(file, f"the {name} grid does not match its digest", "the file was changed or damaged")
            grids.append(space)
        error = {str(k): float(v) for k, v in list(group["field_error"].attrs.items())}
        provenance = json.loads(group["provenance"][()])
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError) as problem:
        raise InputError(file, f"its group 'registration' is damaged ({problem})") from None
    if transform.ndim != grids[0].ndim:
        raise InputError(file, f"holds a {transform.ndim}-D transform for {grids[0].ndim}-D images")
    return transform, TransformInfo(file, True, grids[0], grids[1], error, provenance)


def _chain(file: Path, group: Any) -> Transform:
    """The transform, which its checksum vouches for."""
    version = int(group.attrs.get("format", 0))
    if not 1 <= version <= FORMAT:
        raise InputError(file, f"is of format {version}, this version reads {FORMAT}", "update the package")
    digest = get_text(group, "digest")
    if version == 1 and "digest" not in group.attrs:
        raise InputError(file, "was written by an older version, without checksums", "register again")
    for differences in (True, False) if version == 2 else (True,):
        record = get_record(file, group["chain"], differences=differences)
        transform = decode(record)  # says what is wrong with a record better than a checksum can
        if record.digest() == digest:
            return transform
    raise InputError(file, "the transform does not match its checksum", "the file was changed or damaged")
