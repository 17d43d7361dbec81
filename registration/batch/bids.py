"""The results of a run once more, as a derivative dataset of BIDS.

Warped images and label maps follow BIDS 1.10, chapters on derivatives: ``space-`` and ``desc-`` in their names,
sidecars with ``Sources`` and ``SpatialReference``, ``dataset_description.json``. Transforms are not yet part of BIDS;
they take the names of its extension proposal 14 (``from-``, ``to-``, ``mode-``, ``xfm``), as fMRIPrep does:
``from-A_to-B_mode-image`` resamples images of A onto B. ``.bidsignore`` lists them, and images whose suffix is
none of BIDS, so that validators look at the rest.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError
from .folders import RunFolder
from .record import Record, Status
from .table import PairRow

DATASET = "bids-derivatives"
_VERSION = "1.10.0"
_DATATYPES = ("anat", "func", "dwi", "fmap", "perf", "pet", "meg", "eeg", "ieeg", "micr")
# Of names that no validator knows.
_IGNORED = "".join(f"*_{name}\n" for name in (
    "xfm.h5", "xfm.json", "boldref.nii.gz", "boldref.json", "image.nii.gz", "image.json",
))  # fmt: skip
_README = """# Registered pairs

Moving images (`desc-warped`) and label maps (`dseg`) on the grid of their fixed image, which `space-` names, and the
transforms between them (`xfm`, ITK composite transforms): `from-A_to-B` resamples images of A onto B.
"""
_ENDING = re.compile(r"\.(nii(\.gz)?|mha|mhd|nrrd|nhdr|dcm|png|jpe?g|tiff?|json)$", re.IGNORECASE)


@dataclass(frozen=True)
class BidsName:
    """The parts of a file name in BIDS.

    Parameters
    ----------
    entities
        Label by key, in the order of the name.
    suffix
        Such as ``T1w``; "image", which is none of BIDS, where the name has none.
    datatype
        The folder, such as ``anat``.
    """

    entities: Mapping[str, str]
    suffix: str
    datatype: str

    @staticmethod
    def of(path: Path, otherwise: str) -> BidsName:
        """Take a name apart; ``sub-`` comes from the file, else its folders, else is made of ``otherwise``."""
        parts = _ENDING.sub("", path.name).split("_")
        entities, named = _entities(parts), _entities(path.parts[:-1])
        ours = {key: named[key] for key in ("sub", "ses") if key in named and key not in entities}
        if "tpl" not in entities and "sub" not in ours | entities:
            ours, entities = {"sub": label(otherwise)}, {}
        first = {key: (ours | entities)[key] for key in ("sub", "ses") if key in ours | entities}
        suffix = parts[-1] if entities and "-" not in parts[-1] and parts[-1].isalnum() else "image"
        datatype = path.parent.name if path.parent.name in _DATATYPES else "anat"
        return BidsName(first | entities, suffix, datatype)

    def space(self, other: BidsName) -> str:
        """The label of this image's space, as short as tells it from ``other``."""
        if "tpl" in self.entities:
            return label(self.entities["tpl"])
        if self.entities.get("space", "orig") not in ("orig", other.entities.get("space")):
            return label(self.entities["space"])
        same = [key for key in ("sub", "ses") if self.entities.get(key) == other.entities.get(key)]
        keys = () if len(same) == 2 else ("ses",) if "sub" in same else ("sub", "ses")
        short = "".join(f"{key}{self.entities[key]}" for key in keys if key in self.entities) + self.suffix
        theirs = "".join(f"{key}{other.entities[key]}" for key in keys if key in other.entities) + other.suffix
        if short == theirs:
            short = "".join(f"{key}{value}" for key, value in self.entities.items()) + self.suffix
        return label(short)


def _entities(parts: Sequence[str]) -> dict[str, str]:
    """Label by key of those parts that are ``key-label``."""
    pairs = [part.partition("-") for part in parts]
    return {key: value for key, dash, value in pairs if key and dash and value}


def label(text: str) -> str:
    """What BIDS allows in a label: letters and digits."""
    return re.sub(r"[^A-Za-z0-9]", "", text) or "x"


def names(row: PairRow) -> dict[str, str]:
    """Where the files of a pair's folder go in the dataset: path below its root by file name."""
    moving, fixed = BidsName.of(row.moving, row.id), BidsName.of(row.fixed, row.fixed.name.partition(".")[0])
    if "sub" not in moving.entities:  # a template that is brought onto somebody
        moving = BidsName(
            {"sub": fixed.entities.get("sub", label(row.id)), **moving.entities}, moving.suffix, moving.datatype
        )
    here, there = moving.space(fixed), fixed.space(moving)
    stem = "_".join(f"{key}-{value}" for key, value in moving.entities.items() if key not in ("space", "desc", "tpl"))
    session = f"ses-{moving.entities['ses']}/" if "ses" in moving.entities else ""
    root = f"sub-{moving.entities['sub']}/{session}{moving.datatype}/{stem}"
    return {
        # One volume of a time series is no time series.
        "warped.nii.gz": f"{root}_space-{there}_desc-warped_{moving.suffix.replace('bold', 'boldref')}.nii.gz",
        "warped_labels.nii.gz": f"{root}_space-{there}_desc-warped_dseg.nii.gz",
        "transform.h5": f"{root}_from-{here}_to-{there}_mode-image_xfm.h5",
        "transform_inverse.h5": f"{root}_from-{there}_to-{here}_mode-image_xfm.h5",
    }


def dataset_names(rows: Sequence[PairRow]) -> dict[str, dict[str, str]]:
    """:func:`names` of every pair by its id.

    Raises
    ------
    InputError
        If two pairs would get the same names.
    """
    found: dict[str, dict[str, str]] = {}
    taken: dict[str, str] = {}
    for row in rows:
        found[row.id] = names(row)
        warped = found[row.id]["warped.nii.gz"]
        if warped in taken:
            raise InputError(
                "--bids-derivatives", f"the pairs {taken[warped]} and {row.id} would both write {warped}",
                "name their images differently, or run them apart",
            )  # fmt: skip
        taken[warped] = row.id
    return found


def write_dataset(folder: RunFolder, rows: Sequence[PairRow], records: Mapping[str, Record]) -> Path:
    """Make the dataset ``bids-derivatives`` of the pairs that have results, in exchange for an earlier one.

    Its files are links to those in the folders of the pairs, or copies where the file system has no links.

    Raises
    ------
    InputError
        If names coincide, or the dataset cannot be written.
    """
    placed = dataset_names(rows)
    root, target = Path(tempfile.mkdtemp(prefix="bids.", dir=folder.unfinished)), folder.path / DATASET
    try:
        root.chmod(folder.path.stat().st_mode & 0o777)
        for row in rows:
            if row.id in records and records[row.id].status is not Status.FAILED:
                for name, place in placed[row.id].items():
                    _place(folder.pair(row.id) / name, root / place, row)
        _write(root / "dataset_description.json", _description())
        (root / ".bidsignore").write_text(_IGNORED, encoding="utf-8")
        (root / "README.md").write_text(_README, encoding="utf-8")
        if target.exists():
            target.rename(folder.unfinished / "bids.old")
        root.rename(target)
    except OSError as error:
        raise InputError(target, f"cannot be written ({error.strerror or error})") from error
    return target


def _place(source: Path, target: Path, row: PairRow) -> None:
    if not source.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    inverse = source.name == "transform_inverse.h5"
    images = (row.moving, row.fixed) if inverse else (row.fixed, row.moving)
    told: dict[str, Any] = {"Sources": [str(row.fixed), str(row.moving)]}
    if target.suffix == ".h5":
        told["Description"] = (
            f"Resamples images of {images[1]} onto the grid of {images[0]}: maps points of the latter to the former. "
            "ITK composite transform, LPS mm."
        )
    else:
        kind = "Label map of the moving image" if target.name.endswith("_dseg.nii.gz") else "The moving image"
        told |= {"Description": f"{kind} on the grid of the fixed one.", "SpatialReference": str(row.fixed)}
        told |= _stripped(row.moving)
    _write(target.with_name(target.name.partition(".")[0] + ".json"), told)


def _stripped(image: Path) -> dict[str, bool]:
    """Whether an image shows the brain alone, if its name or its own sidecar says so."""
    if "_desc-brain_" in image.name:
        return {"SkullStripped": True}
    try:
        told = json.loads((image.parent / (_ENDING.sub("", image.name) + ".json")).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    stripped = told.get("SkullStripped") if isinstance(told, dict) else None
    return {"SkullStripped": stripped} if isinstance(stripped, bool) else {}


def _description() -> dict[str, Any]:
    return {
        "Name": "Registered pairs",
        "BIDSVersion": _VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "registration", "Version": __version__}],
    }


def _write(path: Path, told: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
