"""What ``evaluate`` does with a pair: read it and its result, and find every figure that can be had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..batch.attempt import one_line
from ..batch.table import PairRow
from ..errors import InputError
from ..evaluation.cohort import FAILED, Judged
from ..evaluation.results import KINDS, ResultFiles
from .pair_work import HowToRead

if TYPE_CHECKING:
    from ..evaluation.subject import Subject
    from ..image import Image
    from ..space import Space
    from ..transforms.base import Transform


@dataclass(frozen=True)
class JudgePair:
    """Judges a pair, and never raises but for interruptions. Travels to worker processes, so it pickles and is light.

    Parameters
    ----------
    resample_labels
        Whether labels on another grid than the fixed image are brought onto it, nearest voxel, rather than refused.
    """

    reading: HowToRead
    resample_labels: bool = False

    def __call__(self, row: PairRow, result: ResultFiles) -> Judged:
        files = {column: str(path) for column, path in row.files().items()}
        files |= {kind: str(path) for kind in KINDS if (path := getattr(result, kind)) is not None and path.exists()}
        if result.error:
            return Judged(row.id, FAILED, result.error, files=files)
        from ..evaluation.figures import figures_of
        from ..io.files import sha256

        notices: list[str] = []
        try:
            told = figures_of(self._subject(row, result, notices))
            hashes = {role: sha256(path) for role, path in files.items()}
        except Exception as error:
            # What the library calls a wrong value is bad input here, and told in its own words.
            text = " ".join(str(error).split())[:500] if type(error) is ValueError else one_line(error)
            return Judged(row.id, FAILED, text, files=files, notices=tuple(notices))
        return Judged(
            row.id,
            result.status,
            "",
            tuple(told.figures),
            files,
            told.missing,
            tuple(told.lost),
            tuple(notices),
            hashes,
        )

    def _subject(self, row: PairRow, result: ResultFiles, notices: list[str]) -> Subject:
        from ..evaluation.subject import Subject
        from .case import Inputs, load_case

        if (row.fixed_points is None) != (row.moving_points is None):
            raise InputError("fixed_points and moving_points", "come together, the table names only one")
        how = self.reading
        case = load_case(
            Inputs(
                row.fixed, row.moving, row.fixed_mask, row.moving_mask, None, None, row.fixed_points,
                row.moving_points, how.points_space, how.channel, how.spacing,
            ),
            header=False,
        )  # fmt: skip
        notices += case.notices
        fixed = case.fixed.image
        transform, inverse = (_transform(path, fixed, notices) for path in (result.transform, result.inverse))
        fixed_labels, warped_labels = (
            self._on_grid(path, fixed, notices) for path in (row.fixed_labels, result.warped_labels)
        )
        moving_labels = None if row.moving_labels is None else self._labels(row.moving_labels, fixed, notices)
        warped = None if transform is not None else self._warped(result.warped, fixed, notices)
        if fixed_labels is not None and moving_labels is None and warped_labels is None:
            notices.append("there are fixed labels and neither moving nor warped ones, so no overlap")
        return Subject(
            fixed, case.moving.image, transform, inverse, warped, fixed_labels, moving_labels, warped_labels,
            case.points, result.seconds,
        )  # fmt: skip

    def _labels(self, path: Path, fixed: Image, notices: list[str]) -> Image:
        from ..io.images import load_labels
        from .case import _single

        loaded = _single(load_labels, path, self.reading.spacing)
        notices += loaded.notices
        _same_dimension(path, loaded.image.space, fixed)
        return loaded.image

    def _on_grid(self, path: Path | None, fixed: Image, notices: list[str]) -> Image | None:
        """Labels that must be on the fixed grid."""
        if path is None:
            return None
        labels = self._labels(path, fixed, notices)
        if labels.space.same_as(fixed.space):
            return replace(labels, space=fixed.space)
        if not self.resample_labels:
            raise InputError(
                path, f"is on another grid ({labels.space.describe()}) than {fixed.name} ({fixed.space.describe()})",
                "give --resample-labels to bring it there by nearest voxel",
            )  # fmt: skip
        from ..sampling import nearest, warp
        from ..transforms.linear import Linear

        notices.append(f"{path} has another grid than its image and was resampled by nearest voxel")
        return warp(labels, Linear.identity(fixed.ndim), fixed.space, nearest)[0]

    def _warped(self, path: Path | None, fixed: Image, notices: list[str]) -> Image | None:
        if path is None:
            return None
        from ..io.images import load_image

        loaded = load_image(path, channel=self.reading.channel, spacing=self.reading.spacing)
        notices += loaded.notices
        _same_dimension(path, loaded.image.space, fixed)
        if not loaded.image.space.same_as(fixed.space):
            where = f"({loaded.image.space.describe()}) than {fixed.name} ({fixed.space.describe()})"
            raise InputError(path, f"is on another grid {where}", "give the image as it was warped onto the fixed grid")
        return replace(loaded.image, space=fixed.space)


def _transform(path: Path | None, fixed: Image, notices: list[str]) -> Transform | None:
    if path is None:
        return None
    from ..io.transforms import read_transform

    transform, info = read_transform(path)
    notices += info.notices
    if transform.ndim != fixed.ndim:
        raise InputError(path, f"is a {transform.ndim}-D transform, the images have {fixed.ndim} axes")
    return transform


def _same_dimension(path: Path, space: Space, fixed: Image) -> None:
    if space.ndim != fixed.ndim:
        raise InputError(
            path, f"has {space.ndim} axes {space.shape}, {fixed.name} has {fixed.ndim} {fixed.space.shape}"
        )
