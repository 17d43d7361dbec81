"""Whether image files are whole: what lacks, some readers fill with grey, take for 0, or tell at length."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import InputError


def check_whole(file: Path, kind: str) -> None:
    """Notice a cut-off file where the codec would fill the rest with grey, or complain on standard error itself."""
    with file.open("rb") as stream:
        head = stream.read(4096)
        stream.seek(max(0, file.stat().st_size - 4096))
        tail = stream.read()
    cut = False
    if head[:2] == b"\xff\xd8":
        cut = b"\xff\xd9" not in tail
    elif head[:8] == b"\x89PNG\r\n\x1a\n":
        cut = b"IEND" not in tail
    elif head[:2] == b"BM" and kind == "bmp":
        cut = file.stat().st_size < int.from_bytes(head[2:6], "little")
    elif kind == "meta":
        cut = _meta_is_cut(file, head)
    elif head[:8] == b"\x89HDF\r\n\x1a\n":
        # Its library would speak of what it misses at length.
        raise InputError(file, "is an HDF5 file, which is not read as an image", "is it a transform?")
    if cut:
        raise InputError(file, "is truncated: its end is missing", "copy it again")


_META_NUMBERS = (
    "NDims", "DimSize", "ElementSpacing", "Offset", "Position", "Origin", "TransformMatrix", "Rotation", "Orientation",
)  # fmt: skip
_META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "FLOAT": 4, "DOUBLE": 8}


def _meta_is_cut(file: Path, head: bytes) -> bool:
    """Whether a MetaImage's data file is shorter than its header says.

    Raises
    ------
    InputError
        If the header lacks something, or gives what is no number: the reader would tell it at length, or take 0.
    """
    fields = dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(.*?)\s*$", head.decode("latin-1").replace("\0", " "), re.MULTILINE))
    if "NDims" in fields or "ObjectType" in fields:
        _check_meta(file, fields)
    data = fields.get("ElementDataFile", "")
    if data.upper() == "LOCAL":
        mark = re.search(rb"ElementDataFile\s*=\s*LOCAL\s*?\n", head, re.IGNORECASE)
        room = file.stat().st_size - (mark.end() if mark else 0)
    elif data and not data.upper().startswith("LIST") and "%" not in data:
        voxels = file.parent / data
        if not voxels.is_file():
            raise InputError(file, f"its voxels should be in {voxels}, which is not there", "keep both files together")
        room = voxels.stat().st_size
    else:
        return False
    try:
        if fields.get("CompressedData", "False").lower() == "true":
            return room < int(fields.get("CompressedDataSize", 0))
        count = int(np.prod([int(n) for n in fields["DimSize"].split()], dtype=object))
        channels = int(fields.get("ElementNumberOfChannels", 1))
        return room < count * channels * _META_BYTES.get(fields.get("ElementType", "").upper().removeprefix("MET_"), 0)
    except (KeyError, ValueError):
        return False  # a damaged header: the reader's own message says more


def _check_meta(file: Path, fields: dict[str, str]) -> None:
    lacking = [name for name in ("NDims", "DimSize", "ElementType", "ElementDataFile") if not fields.get(name)]
    if lacking:
        raise InputError(file, f"its header does not give {lacking[0]}", "the file is damaged, copy it again")
    odd = [name for name in _META_NUMBERS if name in fields and not _finite(fields[name])]
    if len(fields["DimSize"].split()) != float(fields["NDims"] if "NDims" not in odd else 0):
        odd = ["DimSize"]
    if odd:
        raise InputError(file, f"its header gives {odd[0]} = {fields[odd[0]][:40]}", "repair the header")


def _finite(text: str) -> bool:
    try:
        return bool(np.isfinite([float(word) for word in text.split()]).all())
    except ValueError:
        return False
