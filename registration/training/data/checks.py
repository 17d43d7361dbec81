"""A look at all subjects before a training starts, so that a bad file is known in the first minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ...errors import InputError
from ...io.points import read_points
from ...preprocessing import Pipeline
from ...space import Space
from .caches import Cache
from .dataset import OnError, Subjects
from .loading import Record, SubjectLoader
from .subjects import Subject

_TOLD = 5


class View:
    """Some records of a store, by their places there."""

    def __init__(self, subjects: Subjects, places: Sequence[int]) -> None:
        self.store, self.places = subjects.store, places

    def __getitem__(self, index: int, /) -> Record:
        return self.store[self.places[index]]

    def __len__(self) -> int:
        return len(self.places)


def policy(word: OnError | str) -> OnError:
    """The choice of ``data.on_error``.

    Raises
    ------
    InputError
        If there is no such choice.
    """
    try:
        return OnError(word)
    except ValueError:
        raise InputError(f"data.on_error={word}", "there is no such choice", "stop or skip") from None


def refuse(lines: list[str], on_error: OnError, left_out: list[str], cure: str) -> None:
    """Say what cannot be used: in one error, or line by line in ``left_out``, which its owner tells."""
    if not lines:
        return
    if on_error is OnError.STOP:
        more = f" and {len(lines) - _TOLD} more" if len(lines) > _TOLD else ""
        raise InputError(f"{'; '.join(lines[:_TOLD])}{more}", cure=f"{cure}; data.on_error=skip leaves out what is bad")
    left_out.extend(lines)


def usable(found: list[Subject], pipeline: Pipeline, cache: Cache, on_error: OnError, left_out: list[str]) -> Subjects:
    """The subjects that can be read and have the usual grid shape, all read once where the cache keeps them.

    What cannot be used is appended to ``left_out``, one line each.

    Raises
    ------
    InputError
        If there are such files and they are not to be skipped.
    """
    load = SubjectLoader(pipeline)
    store = cache.store(found, load)
    masked = pipeline.makes_masks or any(s.mask is not None for s in found)
    if not cache.fills():
        return Subjects(found, store, masked)
    errors, shapes = dict[int, str](), dict[int, tuple[int, ...]]()
    for k, subject in enumerate(found):
        record = store[k]
        error = record["error"] if "error" in record else _points_error(subject, record)
        if error is None:
            shapes[k] = tuple(record["image"].shape[1:])
        else:
            errors[k] = error
    refuse(list(errors.values()), on_error, left_out, "mend or remove the files")
    usual = Counter(shapes.values()).most_common(1)[0][0] if shapes else ()
    odd = {k: f"{found[k].image}: {_odd(shape, usual)}" for k, shape in shapes.items() if shape != usual}
    refuse(list(odd.values()), on_error, left_out, "a last step CropOrPad (preprocessing.shape) gives all one shape")
    errors |= odd
    good = [k for k in range(len(found)) if k not in errors]
    whole = Subjects(found, store, masked)
    return replace(whole, subjects=[found[k] for k in good], store=View(whole, good)) if errors else whole


def _points_error(subject: Subject, record: Record) -> str | None:
    """What is wrong with the landmarks of a subject; whether they fit those of others, only their pairs can tell."""
    if subject.points is None:
        return None
    try:
        read_points(subject.points, grid=Space(tuple(record["native_shape"]), record["native_affine"]))
    except InputError as error:
        return str(error)
    return None


def _odd(shape: tuple[int, ...], usual: tuple[int, ...]) -> str:
    if len(shape) != len(usual):
        return f"has {len(shape)} axes {shape}, others have {len(usual)} {usual}"
    return f"is {shape} after preprocessing, others are {usual}"
