"""What ``evaluate`` does with a pair: read it and its result, and find every figure that can be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..batch.attempt import one_line
from ..batch.table import PairRow
from ..errors import InputError
from ..evaluation.cohort import FAILED, Judged
from ..evaluation.results import ResultFiles
from .pair_work import HowToRead

if TYPE_CHECKING:
    from ..evaluation.subject import Subject
    from ..image import Image
    from ..io.links import Grids, Link
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
        links = result.named()
        files |= {role: str(link.file) for role, link in links.items() if link.file.exists()}
        reading = self.reading.of_pair(row).described()
        if turned := [role for role, link in links.items() if link.inverse]:
            reading["inverted"] = turned
        if matrices := [role for role, link in links.items() if link.fsl]:
            reading["fsl"] = matrices
        if result.label_interpolation != ResultFiles.label_interpolation:
            reading["label_interpolation"] = result.label_interpolation
        if result.error:
            return Judged(row.id, FAILED, result.error, files=files, reading=reading)
        from ..evaluation.figures import figures_of
        from ..io.files import sha256

        notices: list[str] = []
        try:
            told = figures_of(self._subject(row, result, notices))
            hashes = {role: sha256(path) for role, path in files.items()}
        except Exception as error:
            # What the library calls a wrong value is bad input here, and told in its own words.
            text = " ".join(str(error).split())[:500] if type(error) is ValueError else one_line(error)
            return Judged(row.id, FAILED, text, files=files, notices=tuple(notices), reading=reading)
        return Judged(
            row.id, result.status, "", tuple(told.figures), files, told.missing, tuple(told.lost), tuple(notices),
            hashes, reading,
        )  # fmt: skip

    def _subject(self, row: PairRow, result: ResultFiles, notices: list[str]) -> Subject:
        from ..evaluation.subject import Subject
        from .case import load_case
        from .interpolations import SAMPLERS

        if (row.fixed_points is None) != (row.moving_points is None):
            raise InputError("fixed_points and moving_points", "come together, the table names only one")
        case = load_case(self.reading.inputs(row, labels=False), header=False)
        notices += case.notices
        fixed = case.fixed.image
        # Other spacings than those of the files are not what a matrix of FSL counts in.
        spaces: Grids = (fixed.space, case.moving.image.space) if self.reading.spacing is None else (None, None)
        transform, inverse = (
            _transform(links, fixed, grids, notices)
            for links, grids in ((result.transform, spaces), (result.inverse, spaces[::-1]))
        )
        labels = _Labels(self.reading.of_pair(row), self.resample_labels, fixed, notices)
        fixed_labels = labels.on_grid(row.fixed_labels)
        warped_labels = labels.on_grid(result.warped_labels, result=True)
        moving_labels = None if row.moving_labels is None else labels(row.moving_labels)
        warped = None if transform is not None else self._warped(row, result.warped, fixed, notices)
        sampler = SAMPLERS.get(result.label_interpolation, SAMPLERS["nearest"])
        if sampler is not SAMPLERS["nearest"] and moving_labels is not None:
            notices.append("labels are warped by a vote, before as after, as the run did")
        if fixed_labels is not None and moving_labels is None and warped_labels is None:
            notices.append("there are fixed labels and neither moving nor warped ones, so no overlap")
        return Subject(
            fixed, case.moving.image, transform, inverse, warped, fixed_labels, moving_labels, warped_labels,
            case.points, result.seconds, sampler,
        )  # fmt: skip

    def _warped(self, row: PairRow, path: Path | None, fixed: Image, notices: list[str]) -> Image | None:
        if path is None:
            return None
        from ..io.images import load_image, load_result

        how = self.reading.of_pair(row)
        channel = how.channel if how.moving_channel is None else how.moving_channel
        loaded = load_result(load_image, path, channel, how.spacing)
        notices += loaded.notices
        _same_dimension(path, loaded.image.space, fixed)
        if not loaded.image.space.same_as(fixed.space):
            where = f"({loaded.image.space.describe()}) than {fixed.name} ({fixed.space.describe()})"
            raise InputError(path, f"is on another grid {where}", "give the image as it was warped onto the fixed grid")
        return replace(loaded.image, space=fixed.space)


@dataclass(frozen=True)
class _Labels:
    """Reads the label maps of one pair."""

    reading: HowToRead
    resample: bool
    fixed: Image
    notices: list[str]

    def __call__(self, path: Path, result: bool = False) -> Image:
        from .case import label_map

        loaded = label_map(path, self.reading.label_channel, self.reading.spacing, result)
        self.notices.extend(loaded.notices)
        _same_dimension(path, loaded.image.space, self.fixed)
        return loaded.image

    def on_grid(self, path: Path | None, result: bool = False) -> Image | None:
        """Labels that must be on the fixed grid; of a ``result``, perhaps of the chosen volume alone."""
        if path is None:
            return None
        labels, fixed = self(path, result), self.fixed
        if labels.space.same_as(fixed.space):
            return replace(labels, space=fixed.space)
        if not self.resample:
            raise InputError(
                path, f"is on another grid ({labels.space.describe()}) than {fixed.name} ({fixed.space.describe()})",
                "give --resample-labels to bring it there by nearest voxel",
            )  # fmt: skip
        from ..sampling import nearest, warp
        from ..transforms.linear import Linear

        self.notices.append(f"{path} has another grid than its image and was resampled by nearest voxel")
        return warp(labels, Linear.identity(fixed.ndim), fixed.space, nearest)[0]


def _transform(links: Sequence[Link], fixed: Image, grids: Grids, notices: list[str]) -> Transform | None:
    if not links:
        return None
    from ..io.links import named, read_links

    transform, info = read_links(links, grids)
    notices += info.notices
    if transform.ndim != fixed.ndim:
        raise InputError(named(links), f"is a {transform.ndim}-D transform, the images have {fixed.ndim} axes")
    return transform


def _same_dimension(path: Path, space: Space, fixed: Image) -> None:
    if space.ndim != fixed.ndim:
        raise InputError(
            path, f"has {space.ndim} axes {space.shape}, {fixed.name} has {fixed.ndim} {fixed.space.shape}"
        )
