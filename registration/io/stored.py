"""Records of transforms in HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from ..errors import InputError
from .chain import Record, space_from
from .itk_fields import from_itk_vectors
from .packing import get_array, get_text, put_array, put_text

# A chain of chains deeper than this is a loop of links in a damaged or hostile file.
_DEEPEST = 16


def put_record(group: Any, record: Record) -> None:
    """Write a record into an empty HDF5 group."""
    put_text(group, "kind", record.kind)
    for name, values in record.arrays.items():
        if name == "displacement" and record.stored_at:
            put_text(group, "displacement_at", record.stored_at)
        else:
            put_array(group, name, values, record.grain if name == "displacement" else 0.0)
    for number, part in enumerate(record.parts):
        put_record(group.create_group(str(number)), part)


def get_record(file: Path, group: Any, depth: int = 0, differences: bool = True) -> Record:
    """Read the record in an HDF5 group.

    Parameters
    ----------
    differences
        Whether rounded fields are stored as differences of neighbours, see :func:`~registration.io.packing.get_array`.

    Raises
    ------
    InputError
        If the group holds no record.
    """
    if not isinstance(group, h5py.Group) or depth > _DEEPEST:
        raise InputError(file, "its group 'registration' is damaged", "the file was not written by this program")
    record = Record(get_text(group, "kind"))
    for name in map(str, group):
        if isinstance(group.get(name), h5py.Dataset):
            record.arrays[name] = get_array(file, group, name, differences)
    stored_at = get_text(group, "displacement_at")
    if stored_at and "shape" in record.arrays:
        holder, _, name = stored_at.rpartition("/")
        if holder not in group.file or not isinstance(group.file[holder], h5py.Group):
            raise InputError(file, f"has no field at {stored_at}", "the file is damaged")
        values = get_array(file, group.file[holder], name, differences)
        record.arrays["displacement"] = from_itk_vectors(values, space_from(record.arrays).shape)
    while str(len(record.parts)) in group:
        record.parts.append(get_record(file, group[str(len(record.parts))], depth + 1, differences))
    return record
