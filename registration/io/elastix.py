"""Transforms of elastix, TransformParameters.N.txt: read into ITK's transforms, LPS mm, fixed -> moving like ours."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..space import Space, SpaceError
from ..transforms.base import Transform, compose
from .files import existing_file
from .itk_images import flip
from .itk_transforms import convert
from .own import TransformInfo

_LARGEST = 1 << 28  # bytes of a file: some four million control points
_LONGEST = 64  # files of a chain
_ENTRY = re.compile(r"\s*\((\w+)\s+(.*)", re.DOTALL)
_WORDS = re.compile(r'((?:"[^"]*"\s*)+)\)')
_MARK = re.compile(rb"^\s*\((Transform|FixedImageDimension|HowToCombineTransforms|NumberOfParameters)\s", re.MULTILINE)
_INITIAL = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")  # the second before elastix 5.1
_SPLINES = ("BSplineTransform", "RecursiveBSplineTransform")
_CENTRED = {
    ("EulerTransform", 2): sitk.Euler2DTransform, ("EulerTransform", 3): sitk.Euler3DTransform,
    ("SimilarityTransform", 2): sitk.Similarity2DTransform, ("SimilarityTransform", 3): sitk.Similarity3DTransform,
    ("AffineTransform", 2): lambda: sitk.AffineTransform(2), ("AffineTransform", 3): lambda: sitk.AffineTransform(3),
}  # fmt: skip


def is_elastix(start: bytes) -> bool:
    """Whether a file that begins so is one of elastix."""
    return b"\0" not in start and _MARK.search(start) is not None


def read_elastix(file: Path) -> tuple[Transform, TransformInfo]:
    """Read a transform and those it starts from, as one, fixed RAS mm -> moving RAS mm, with the fixed grid.

    Raises
    ------
    InputError
        If a file is missing, truncated or damaged, or of a kind that is not known here.
    """
    said: list[str] = []
    read: list[Path] = []
    found: Transform | None = None
    fixed: Space | None = None
    following: Path | None = file
    while following is not None:
        if following.resolve() in read or len(read) == _LONGEST:
            raise InputError(file, f"its initial transforms lead in a circle, by way of {following}")
        read.append(following.resolve())
        settings = _Settings.of(following)
        step = convert(following, _itk(settings), said)
        if found is None:
            found, fixed = step, settings.grid()
        elif found.ndim != step.ndim:
            raise InputError(following, f"is a {step.ndim}-D transform, {file} a {found.ndim}-D one")
        else:
            found = compose(found, step)  # what a transform starts from acts before it
        following = settings.initial(said)
    assert found is not None
    return found, TransformInfo(file, False, fixed, notices=tuple(said))


@dataclass(frozen=True)
class _Settings:
    """What a file says: the text behind each name."""

    file: Path
    texts: Mapping[str, str]
    ndim: int

    @staticmethod
    def of(path: Path) -> _Settings:
        file = existing_file(path)
        if file.stat().st_size > _LARGEST:
            raise InputError(file, f"is no transform of elastix that can be read: more than {_LARGEST:,} bytes")
        texts: dict[str, str] = {}
        for number, line in enumerate(os.fsdecode(file.read_bytes()).splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("//"):
                continue
            name, text = _entry(file, number, line)
            if name in texts:
                raise InputError(file, f"names {name} twice", "which of them is meant?")
            texts[name] = text
        ends = [_Settings(file, texts, 0).numbers(f"{side}ImageDimension", 1)[0] for side in ("Fixed", "Moving")]
        if ends not in ([2, 2], [3, 3]):
            raise InputError(file, f"leads from {ends[0]:g} axes to {ends[1]:g}", "2 or 3 on both sides were expected")
        return _Settings(file, texts, int(ends[0]))

    def word(self, name: str, default: str | None = None) -> str:
        """What stands behind a name, without quotes."""
        if name not in self.texts and default is None:
            raise InputError(self.file, f"is truncated: {name} is missing", "copy it again")
        return self.texts.get(name, default or "").strip('"')

    def numbers(self, name: str, count: int) -> np.ndarray:
        """(count,) finite numbers behind a name."""
        text = self.word(name)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            try:
                values = np.fromstring(text, dtype=np.float64, sep=" ")
            except (ValueError, DeprecationWarning):
                raise InputError(self.file, f"{name} holds what is no number", "write it again") from None
        if len(values) != count:
            raise InputError(self.file, f"{name} has {len(values)} numbers, {count} were expected", "copy it again")
        if not np.isfinite(values).all():
            raise InputError(self.file, f"{name} holds NaN or infinite numbers", "write it again")
        return values

    def axes(self, name: str) -> np.ndarray:
        """(D, D) directions, which are written one after the other; a column each."""
        columns = self.numbers(name, self.ndim**2).reshape(self.ndim, self.ndim).T
        if not np.allclose(columns.T @ columns, np.eye(self.ndim), atol=1e-4):
            raise InputError(self.file, f"{name} holds directions that are not at right angles")
        return columns

    def grid(self) -> Space | None:
        """The grid of the fixed image, where the file tells it."""
        if not {"Size", "Index", "Spacing", "Origin", "Direction"} <= self.texts.keys():
            return None
        shape, index, spacing, origin = (
            self.numbers(name, self.ndim) for name in ("Size", "Index", "Spacing", "Origin")
        )
        affine = np.eye(self.ndim + 1)
        affine[:-1, :-1] = self.axes("Direction") * spacing
        affine[:-1, -1] = origin + affine[:-1, :-1] @ index
        try:
            return Space(tuple(int(n) for n in shape), torch.from_numpy(flip(self.ndim) @ affine))
        except SpaceError as error:
            raise InputError(self.file, f"describes a fixed image on no proper grid ({error})") from None

    def initial(self, said: list[str]) -> Path | None:
        """The file of the transform that acts before this one, if there is one."""
        named = next((name for name in _INITIAL if name in self.texts), _INITIAL[0])
        name = self.word(named)
        if name == "NoInitialTransform":
            return None
        if self.word("HowToCombineTransforms") != "Compose":
            raise InputError(
                self.file, "is added to its initial transform (HowToCombineTransforms), which is not read",
                "transformix -def all writes both as a displacement field",
            )  # fmt: skip
        if name.isdecimal():
            raise InputError(
                self.file, f"starts from transform {name} of a list, not from a file", f"name it in {named}"
            )
        path = self.file.parent / name
        beside = self.file.parent / re.split(r"[/\\]", name)[-1]
        if path.exists() or not beside.exists():
            return path
        said.append(f"{self.file}: its initial transform {name} is not there; {beside} is taken")
        return beside


def _entry(file: Path, number: int, line: str) -> tuple[str, str]:
    """The name in a line ``(Name value ...)``, and the text behind it."""
    found = _ENTRY.match(line)
    if found is None:
        raise InputError(file, f"line {number} is none of elastix: {line.strip()[:40]}", "(Name value) was expected")
    words = _WORDS.match(found[2])
    text, closed, _ = (words[1], ")", "") if words else found[2].partition(")")
    if not closed:
        raise InputError(file, f"is truncated: {found[1]} in line {number} is not closed", "copy it again")
    return found[1], text.strip()


def _itk(settings: _Settings) -> Any:
    """The transform of one file."""
    file, kind, d = settings.file, settings.word("Transform"), settings.ndim
    if "TransformParameters" not in settings.texts:
        raise InputError(
            file, "has no TransformParameters", "these may be the settings of a registration, not its result"
        )
    if settings.word("UseDirectionCosines", "true") != "true":
        raise InputError(
            file, "was found without the directions of its images (UseDirectionCosines), so it is not in world mm",
            "register again with them",
        )  # fmt: skip
    if settings.word("UseBinaryFormatForTransformationParameters", "false") != "false":
        raise InputError(file, "has its parameters in a binary file", "write them as text")
    count = int(settings.numbers("NumberOfParameters", 1)[0])
    parameters = settings.numbers("TransformParameters", count).tolist()
    try:
        if kind in _SPLINES:
            return _spline(settings, parameters)
        if kind == "TranslationTransform":
            return sitk.TranslationTransform(d, parameters)
        if (kind, d) in _CENTRED:
            transform = _CENTRED[kind, d]()
            transform.SetCenter(settings.numbers("CenterOfRotationPoint", d).tolist())
            if settings.word("ComputeZYX", "false") == "true":
                transform.SetComputeZYX(True)
            transform.SetParameters(parameters)
            return transform
    except (RuntimeError, AttributeError, TypeError):
        raise InputError(file, f"holds parameters that make no {kind}", "write it again") from None
    raise InputError(
        file, f"holds a {kind}, which cannot be used here", "transformix -def all writes it as a displacement field"
    )


def _spline(settings: _Settings, parameters: list[float]) -> Any:
    """A B-spline of order 3; the place of its grid is what ITK calls fixed parameters."""
    file, d = settings.file, settings.ndim
    size, index, spacing, origin = (
        settings.numbers(f"Grid{name}", d) for name in ("Size", "Index", "Spacing", "Origin")
    )
    axes = settings.axes("GridDirection")
    if (
        settings.word("BSplineTransformSplineOrder", "3") != "3"
        or settings.word("UseCyclicTransform", "false") != "false"
    ):
        raise InputError(
            file, "holds a B-spline of another order than 3, or a cyclic one, which cannot be used here",
            "transformix -def all writes it as a displacement field",
        )  # fmt: skip
    if (size < 4).any() or (spacing <= 0).any() or size.prod() * d != len(parameters):
        points = " x ".join(f"{n:g}" for n in size)
        raise InputError(
            file, f"is damaged: {len(parameters)} parameters for {points} control points, 4 or more along each axis"
        )
    transform = sitk.BSplineTransform(d, 3)
    origin = origin + axes @ (spacing * index)
    transform.SetFixedParameters([*size, *origin, *spacing, *axes.ravel()])
    transform.SetParameters(parameters)
    return transform
