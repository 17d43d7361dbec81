"""One transform file: an ITK composite transform for everybody's tools, and in the same HDF5 file the exact chain for
ours.

``/TransformGroup`` is what ITK writes and reads, in LPS mm: an affine transform and, where the chain is not linear, a
displacement field that acts before it, or after it where the chain has it there. ``/registration`` holds the chain
itself in RAS mm, both grids, the error of the sampled field, and where it all came from. Both parts map fixed points to
moving points.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import InputError, check_types
from ..space import Space
from ..transforms.base import Composite, Transform, parts_of
from ..transforms.diffeomorphism import Diffeomorphism
from ..transforms.linear import Linear
from .chain import Record, decode, encode
from .fields import ERROR_NAMES, SampledField, of_field, sample_displacement
from .files import atomic_path, existing_file
from .itk_fields import itk_grid, itk_vectors
from .itk_images import flip
from .own import TransformInfo, put_own, read_own
from .packing import put_array
from .widened import covering, reader

# The oldest layout of HDF5 with checksums in its own structures; every ITK since 5.0 reads it.
_LIBVER = ("v110", "v110")
_BLOCK = 1 << 22  # bytes that a file grows by in memory
# A field this close, in moving voxels, changes no interpolated value by more than 1e-3 of the intensity range, however
# sharp the image: between neighbouring voxels an image changes by its whole range at most, along each of three axes.
_TOLERANCE_VOXELS = 3e-4


def write_transform(
    path: str | os.PathLike[str],
    transform: Transform,
    fixed: Space,
    moving: Space,
    provenance: dict[str, Any] | None = None,
    tolerance: float | None = None,
) -> dict[str, float]:
    """Write the one transform file (.h5).

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm; not batched.
    fixed, moving
        The grids of the two images.
    provenance
        Anything JSON can say.
    tolerance
        Largest error in mm of the sampled field at the voxel centres of ``fixed``. Without it so small that
        resampling in ITK agrees with :func:`registration.sampling.warp` to 1e-3 of the intensity range; a larger one
        may allow a coarser, much smaller field. The exact chain is not touched by it.

    Returns
    -------
    The field's errors in mm, all 0 for a linear transform.

    Raises
    ------
    InputError
        If the file cannot be written, or its ending is not .h5 or .hdf5.
    TypeError, ValueError
        If the chain has a part that no file can hold, or is a batch; if a grid is none, such as an image.
    """
    check_types(Transform, "a Result of registration.register has one, result.transform", transform=transform)
    check_types(Space, "that of an image is image.space", fixed=fixed, moving=moving)
    file = Path(path)
    if file.suffix.lower() not in (".h5", ".hdf5"):
        raise InputError(file, "a transform file ends in .h5")
    record = encode(covering(transform, fixed))
    if tolerance is None:
        tolerance = _TOLERANCE_VOXELS * float(moving.spacing.min())
    steps = _field_steps(record, transform, fixed) or _sampled_steps(record, fixed, tolerance)
    error = next((step.error for step in steps if isinstance(step, SampledField)), dict.fromkeys(ERROR_NAMES, 0.0))
    with atomic_path(file) as temporary, open_store(temporary) as store:
        put_itk(store, steps)
        put_own(store, record, (fixed, moving), error, provenance or {})
    return error


def _sampled_steps(record: Record, fixed: Space, tolerance: float) -> list[Linear | SampledField]:
    """What ITK reads of any chain, outermost first: a linear map, and the rest sampled within ``tolerance`` mm."""
    outer, inner = split_linear(decode(record))
    return [outer, *([] if inner is None else [sample_displacement(inner, fixed, tolerance)])]


def _field_steps(record: Record, transform: Transform, fixed: Space) -> list[Linear | SampledField]:
    """What ITK reads where all but one diffeomorphism is linear, outermost first: its own field, no samples of it.

    The record then refers to the field that ITK's part holds. Empty for any other chain.
    """
    parts, exact = parts_of(decode(record)), parts_of(transform)
    others = [number for number, part in enumerate(parts) if not isinstance(part, Linear)]
    if len(others) != 1 or len(parts) - others[0] > 2 or not isinstance(parts[others[0]], Diffeomorphism):
        return []
    field, spot = parts[others[0]], others[0]
    assert isinstance(field, Diffeomorphism)
    read = reader(parts[-1], fixed) if spot + 1 < len(parts) else fixed
    sampled = of_field(field.forward, exact[spot], read)
    steps: list[Linear | SampledField] = [part if isinstance(part, Linear) else sampled for part in parts]
    if len(steps) == 1:
        steps = [Linear.identity(transform.ndim), sampled]
    held = record if record.kind == "diffeomorphism" else record.parts[spot]
    held.parts[0].stored_at = f"/TransformGroup/{steps.index(sampled) + 1}/TransformParameters"
    return steps


def split_linear(transform: Transform) -> tuple[Linear, Transform | None]:
    """``transform == outer @ inner``: its outermost linear part, and the rest or None."""
    first, *rest = parts_of(transform)
    if not isinstance(first, Linear):
        return Linear.identity(transform.ndim), transform
    if not rest:
        return first, None
    return first, rest[0] if len(rest) == 1 else Composite(tuple(rest))


def read_transform(path: str | os.PathLike[str]) -> tuple[Transform, TransformInfo]:
    """Read a transform of any kind, fixed RAS mm -> moving RAS mm.

    Our own .h5 gives the exact chain. Further: what ITK, ANTs and SimpleITK write (.h5, .tfm, .txt, .mat, .xfm) -
    linear transforms, displacement fields, B-splines (sampled) and composites of them; displacement fields as images
    (ANTs' Warp.nii.gz, vector .mha or .nrrd); what elastix writes (TransformParameters.0.txt, with those it starts
    from) and FreeSurfer (.lta); and a (D+1, D+1) matrix in RAS mm as plain text.

    Raises
    ------
    InputError
        If the file is missing, damaged, or of none of these kinds.
    """
    from .foreign import read_foreign

    file = existing_file(path)
    with file.open("rb") as stream:
        magic = stream.read(8)
    if magic == b"\x89HDF\r\n\x1a\n":
        try:
            with h5py.File(file, "r") as store:
                if "registration" in store:
                    return read_own(file, store["registration"])
                if "TransformGroup" not in store:
                    raise InputError(
                        file, "this HDF5 file holds no transform", "a transform.h5 or an ITK .h5 was expected"
                    )
        except InputError:
            raise
        except (OSError, KeyError, RuntimeError) as error:
            raise InputError(file, f"is truncated or damaged ({str(error)[:120]})", "copy it again") from None
    return read_foreign(file)


@contextlib.contextmanager
def open_store(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file in a layout that every ITK reads.

    It is made in memory and written in one go: on a full disk HDF5 cannot even close what it has begun, and says so
    once for every object in it.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with h5py.File(path, "w", libver=_LIBVER, driver="core", backing_store=False, block_size=_BLOCK) as store:
        yield store
        store.flush()
        content = store.id.get_file_image()
    path.write_bytes(content)


def put_itk(store: h5py.File, steps: Sequence[Linear | SampledField]) -> None:
    """Write ITK's part: linear maps and fields, outermost first; ITK applies its queue from the back."""
    first = steps[0]
    d = first.ndim if isinstance(first, Linear) else first.space.ndim
    text = h5py.string_dtype("ascii")
    versions = {"ITKVersion": "5.4", "HDFVersion": h5py.version.hdf5_version, "OSName": "", "OSVersion": ""}
    for name, value in versions.items():
        store.create_dataset(name, data=np.array([value], dtype=object), dtype=text)
    group = store.create_group("TransformGroup")
    for number, one in enumerate((None, *steps)):
        kind = "Composite" if one is None else "Affine" if isinstance(one, Linear) else "DisplacementField"
        name = f"{kind}Transform_double_{d}_{d}"
        step = group.create_group(str(number))
        step.create_dataset("TransformType", data=np.array([name], dtype=object), dtype=text)
        if isinstance(one, Linear):
            matrix = flip(d) @ one.matrix.double().numpy() @ flip(d)
            step["TransformFixedParameters"] = np.zeros(d)
            step["TransformParameters"] = np.concatenate([matrix[:d, :d].ravel(), matrix[:d, d]])
        elif one is not None:
            step["TransformFixedParameters"] = itk_grid(one.space)
            put_array(step, "TransformParameters", itk_vectors(one.displacement))
