"""Volumes as text inside a page: pictures of all slices for intensities, deflated bytes where every value counts."""

from __future__ import annotations

import base64
import io
import math
import zlib
from typing import Any

import numpy as np

_LARGEST_SIDE = 16000  # WebP ends at 16383 pixels


def mosaic(volume: np.ndarray, quality: int) -> dict[str, Any]:
    """All slices side by side in one lossy grey picture.

    Parameters
    ----------
    volume
        (X, Y, Z) uint8.
    quality
        Of WebP (or of JPEG where this Pillow knows no WebP), 0 to 100.

    Returns
    -------
    ``data`` (base64), ``mime``, ``columns`` (slices per row). Slice z stands at row ``z // columns``; within it x runs
    to the right and y downwards.
    """
    from PIL import Image as Picture
    from PIL import features

    nx, ny, nz = volume.shape
    columns = max(1, min(nz, round(math.sqrt(nz * ny / nx)), _LARGEST_SIDE // nx))
    rows = math.ceil(nz / columns)
    sheet = np.zeros((rows * columns, ny, nx), np.uint8)
    sheet[:nz] = volume.transpose(2, 1, 0)
    sheet = sheet.reshape(rows, columns, ny, nx).transpose(0, 2, 1, 3).reshape(rows * ny, columns * nx)
    kind = "WEBP" if features.check("webp") and max(sheet.shape) <= _LARGEST_SIDE else "JPEG"
    stream = io.BytesIO()
    Picture.fromarray(sheet).save(stream, kind, quality=quality, **({"method": 3} if kind == "WEBP" else {}))
    return {"data": _text(stream.getvalue()), "mime": f"image/{kind.lower()}", "columns": columns}


def exact(values: np.ndarray) -> str:
    """(X, Y, Z) uint8 as deflated bytes, x running fastest."""
    return _text(zlib.compress(np.ascontiguousarray(values.transpose(2, 1, 0)).tobytes(), 6))


def smooth(values: np.ndarray) -> str:
    """(X, Y, Z) or (C, X, Y, Z) uint8 or uint16 that change slowly: differences along z, y and x, modulo the type.

    Deflated, x running fastest; of uint16 all high bytes come first, then all low ones.
    """
    steps = np.ascontiguousarray(values.swapaxes(-1, -3))
    for axis in (-1, -2, -3):
        steps = np.diff(steps, axis=axis, prepend=np.zeros_like(steps.take([0], axis)))
    if steps.dtype == np.uint16:
        steps = np.stack([(steps >> 8).astype(np.uint8), (steps & 255).astype(np.uint8)])
    return _text(zlib.compress(steps.tobytes(), 6))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
