"""Large arrays in HDF5, quickly: shuffled and deflated by several threads, in a form every HDF5 library reads."""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import InputError
from .files import check_claim

_CHUNK = 1 << 18


def put_array(group: Any, name: str, values: np.ndarray, grain: float = 0.0) -> None:
    """Store an array; a large one is compressed without loss.

    Real numbers that are multiples of ``grain`` are stored as whole numbers, each as its difference from its
    neighbours along the last two axes: those of smooth fields are small. They wrap around, and so does their sum.

    Shuffling puts the bytes of equal weight side by side, where smooth fields repeat; run-length matching then packs
    nearly as well as a full search and is several times faster, and chunks are independent, so threads share them.
    """
    if values.size < 4096:
        group.create_dataset(name, data=values)
        return
    shape, flat = values.shape, np.ascontiguousarray(values).reshape(-1)
    if grain:
        counts = np.int16 if float(np.abs(flat).max()) < 32_000 * grain else np.int32
        flat = _differences(np.rint(flat * (1 / grain)).astype(counts).reshape(shape)).reshape(-1)
    # ITK wants parameters as a vector; everything else keeps its shape in an attribute.
    chunk = min(_CHUNK, flat.size)
    data = group.create_dataset(
        name, shape=flat.shape, dtype=flat.dtype, chunks=(chunk,), compression="gzip", compression_opts=1, shuffle=True
    )
    if len(shape) > 1:
        data.attrs["shape"] = shape
    if grain:
        data.attrs["grain"] = grain
    size = flat.dtype.itemsize

    def pack(start: int) -> bytes:
        piece = flat[start : start + chunk]
        if piece.size < chunk:
            piece = np.concatenate([piece, np.zeros(chunk - piece.size, piece.dtype)])
        deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
        planes = piece.view(np.uint8).reshape(-1, size).T
        return deflate.compress(planes.tobytes()) + deflate.flush()

    starts = range(0, flat.size, chunk)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start, packed in zip(starts, threads.map(pack, starts), strict=True):
            data.id.write_direct_chunk((start,), packed)


def put_text(group: Any, name: str, text: str) -> None:
    """Attach a text of fixed length: the heap of texts of variable length can trap the reader of a damaged file."""
    group.attrs[name] = np.bytes_(text.encode())


def get_text(group: Any, name: str) -> str:
    """The text of :func:`put_text`; empty if there is none."""
    attribute = group.attrs.get_id(name) if name in group.attrs else None
    if attribute is None or attribute.dtype.kind != "S" or attribute.shape != ():
        return ""
    return bytes(group.attrs[name]).decode("utf-8", "replace")


def get_array(file: Path, group: Any, name: str, differences: bool = True) -> np.ndarray:
    """An array stored by :func:`put_array`, or any plain numeric dataset.

    Parameters
    ----------
    differences
        Whether whole numbers stand for differences of neighbours; early versions stored the numbers themselves.

    Raises
    ------
    InputError
        If it is missing, no numbers, or larger than what is stored for it.
    """
    data = group.get(name)
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "iuf" or data.shape is None:
        raise InputError(file, f"has no numbers at {group.name}/{name}", "the file is damaged or of another program")
    # Storage that was never written reads as zeros: a transform of zeros would look like an answer.
    stored = data.id.get_storage_size()
    check_claim(file, int(data.nbytes), stored)
    if data.nbytes > 0 and stored == 0:
        raise InputError(file, f"nothing is stored for {group.name}/{name}", "the file is damaged")
    shape = tuple(int(n) for n in data.attrs.get("shape", data.shape))
    values = data[...]
    if int(np.prod(shape, dtype=object)) != values.size:
        raise InputError(file, f"{group.name}/{name} holds {values.size} numbers for the shape {shape}")
    values = values.reshape(shape)
    if "grain" not in data.attrs:
        return values
    if values.dtype.kind != "i" or values.ndim < 2:
        raise InputError(file, f"{group.name}/{name} should hold whole numbers", "the file is damaged")
    counts = _sums(values) if differences else values
    return counts.astype(np.float32) * np.float32(data.attrs["grain"])


def _differences(values: np.ndarray) -> np.ndarray:
    """Of neighbours along the last two axes; the first of each line stays."""
    for axis in (-1, -2):
        values = np.diff(values, axis=axis, prepend=np.zeros_like(np.take(values, [0], axis=axis)))
    return values


def _sums(values: np.ndarray) -> np.ndarray:
    """What :func:`_differences` was made of."""
    for axis in (-2, -1):
        values = np.cumsum(values, axis=axis, dtype=values.dtype)
    return values
