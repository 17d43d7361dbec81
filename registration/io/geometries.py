"""Surfaces and streamlines whose places change: GIFTI, TrackVis and MRtrix, in world RAS mm."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.streamlines import ArraySequence, Field, Tractogram
from torch import Tensor

from ..errors import InputError
from ..space import Space
from .files import PathLike, atomic_path, existing_file

_POINTS = "NIFTI_INTENT_POINTSET"
_ENDINGS = (".gii", ".trk", ".tck")
# Where mris_convert tells the centre of the volume, the origin of FreeSurfer's own coordinates.
_CENTRE = ("VolGeomC_R", "VolGeomC_A", "VolGeomC_S")


@dataclass(frozen=True)
class Geometry:
    """The places of a file, and the rest of it.

    Parameters
    ----------
    file
        Where it was read.
    points
        (N, 3) float64 RAS mm: vertices of a surface, or points of all streamlines one after another.
    what
        The points in a word.
    notices
        What was decided while reading.
    put
        Writes the same to a path with other points, a line that says why, and the grid they lie on, where it is known.
    """

    file: Path
    points: Tensor
    what: str
    notices: tuple[str, ...]
    put: Callable[[Path, np.ndarray, str, Space | None], list[str]]

    def write(self, path: PathLike, points: Tensor, said: str, grid: Space | None = None) -> list[str]:
        """Write other points in the same order, with all else that the file held, in the same format.

        Parameters
        ----------
        points
            (N, 3) RAS mm.
        said
            One line that stands in the file, where the format has a place for it: all but .trk.
        grid
            Of the image that the points lie in now, for the header of a .trk.

        Returns
        -------
        What had to be decided.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        with atomic_path(path) as temporary:
            return self.put(temporary, points.detach().cpu().numpy().astype(np.float32), " ".join(said.split()), grid)


def is_geometry(path: PathLike) -> bool:
    """Whether the ending is one of a surface or of streamlines."""
    return Path(path).name.lower().endswith(_ENDINGS)


def check_same_ending(source: PathLike, output: PathLike) -> None:
    """Refuse an output of another format.

    Raises
    ------
    InputError
        If its last ending is another than that of ``source``.
    """
    wanted = Path(source).suffix.lower()
    if Path(output).suffix.lower() != wanted:
        raise InputError(output, f"what is in a {wanted} file is written as one", f"give a name that ends in {wanted}")


def read_geometry(path: PathLike) -> Geometry:
    """Read a surface (.gii) or streamlines (.trk, .tck).

    Their coordinates are taken as world RAS mm: those of a GIFTI file as they stand, as Connectome Workbench, fMRIPrep
    and ``mris_convert --to-scanner`` write them; those of a .trk by way of the matrix in its header, as nibabel does.

    Raises
    ------
    InputError
        If it is damaged, holds no points, or one that is not finite.
    """
    file = existing_file(path)
    surface = file.name.lower().endswith(".gii")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = _surface(file) if surface else _streamlines(file)
    except InputError:
        raise
    except Exception as error:  # nibabel's readers raise whatever the content of the file leads to
        kind = "GIFTI surface" if surface else "file of streamlines"
        raise InputError(file, f"cannot be read as a {kind} ({str(error)[:120]})", "it is damaged or none") from None
    if not len(read.points):
        raise InputError(file, f"holds no {read.what}")
    bad = int((~torch.isfinite(read.points).all(dim=-1)).sum())
    if bad:
        raise InputError(file, f"{bad} of {len(read.points)} {read.what} are not finite")
    told = dict.fromkeys(f"{file}: {' '.join(str(warning.message).split())}" for warning in caught)
    return replace(read, notices=(*read.notices, *told))


def _surface(file: Path) -> Geometry:
    image: Any = nib.load(file)
    sets = image.get_arrays_from_intent(_POINTS)
    if len(sets) != 1:
        raise InputError(file, f"holds {len(sets)} sets of vertices, one was expected", "give a surface, .surf.gii")
    vertices = sets[0]

    def put(path: Path, places: np.ndarray, said: str, grid: Space | None) -> list[str]:
        whole = nib.GiftiImage.from_bytes(image.to_bytes())
        moved = whole.get_arrays_from_intent(_POINTS)[0]
        moved.data = places
        whole.meta["Moved"] = said
        path.write_bytes(whole.to_bytes())
        return []

    centre = [float(vertices.meta.get(name, 0)) for name in _CENTRE]
    notices = (
        f"{file}: FreeSurfer's surfaces are in world coordinates if mris_convert --to-scanner made them; without it "
        f"they are off by ({', '.join(f'{v:.4g}' for v in centre)}) mm",
    )
    points = torch.from_numpy(np.asarray(vertices.data, dtype=np.float64).reshape(-1, 3))
    return Geometry(file, points, "vertices", notices if any(centre) else (), put)


def _streamlines(file: Path) -> Geometry:
    held: Any = nib.streamlines.load(file)
    lines: ArraySequence = held.tractogram.streamlines
    points = np.concatenate([np.asarray(line, dtype=np.float64) for line in lines] or [np.zeros((0, 3))])
    ends = np.cumsum([len(line) for line in lines])[:-1]

    def put(path: Path, places: np.ndarray, said: str, grid: Space | None) -> list[str]:
        was, header, notices = held.tractogram, dict(held.header), list[str]()
        now = Tractogram(
            ArraySequence(np.split(places, ends)),
            was.data_per_streamline,
            was.data_per_point,
            affine_to_rasmm=np.eye(4),
        )
        if isinstance(held, nib.streamlines.TckFile):
            header["moved"] = said
        elif grid is not None:
            affine = grid.affine.numpy()
            header |= {
                Field.VOXEL_TO_RASMM: affine.astype(np.float32), Field.DIMENSIONS: np.array(grid.shape, np.int16),
                Field.VOXEL_SIZES: grid.spacing.numpy().astype(np.float32),
                Field.VOXEL_ORDER: "".join(nib.aff2axcodes(affine)),
            }  # fmt: skip
        else:
            notices.append("its header still has the grid of the image that the streamlines come from")
        type(held)(now, header).save(str(path))
        return notices

    return Geometry(file, torch.from_numpy(points), "points", (), put)
