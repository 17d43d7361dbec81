"""Which subjects make pairs, and which of them are kept for validation."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from ...errors import InputError
from ...limits import is_number, is_whole

Pairs = Sequence[tuple[int, int]]
"""(fixed, moving) as positions in a list of subjects."""


class Pairing(ABC):
    """Makes pairs of subjects. All pairs in random order are all random pairs: the sampler shuffles them."""

    @abstractmethod
    def __call__(self, ids: Sequence[str]) -> Pairs:
        """The pairs among subjects with these ids.

        Raises
        ------
        InputError
            If there is none, or an id is unknown.
        """

    def shared(self) -> tuple[str, ...]:
        """Ids of subjects that training and validation share, such as an atlas."""
        return ()


@dataclass(frozen=True)
class Ordered(Pairing):
    """Every subject to every other, both ways: N (N - 1) pairs, never listed."""

    def __call__(self, ids: Sequence[str]) -> Pairs:
        _enough(ids)
        return _AllOrdered(len(ids))


@dataclass(frozen=True)
class Unordered(Pairing):
    """Every two subjects once, the later one moving."""

    def __call__(self, ids: Sequence[str]) -> Pairs:
        _enough(ids)
        return [(i, j) for i in range(len(ids)) for j in range(i + 1, len(ids))]


@dataclass(frozen=True)
class Opposite(Pairing):
    """The first subject with the last, the second with the last but one and so on, both ways, as in Learn2Reg 2020."""

    def __call__(self, ids: Sequence[str]) -> Pairs:
        _enough(ids)
        last = len(ids) - 1
        return [(i, last - i) for i in range(len(ids)) if i != last - i]


@dataclass(frozen=True)
class Atlas(Pairing):
    """One subject with every other.

    Parameters
    ----------
    id
        The subject, which then belongs to training and to validation.
    moves
        Whether it is the moving image; else it is the fixed one.
    """

    id: str | None
    moves: bool = False

    def shared(self) -> tuple[str, ...]:
        return (self._name(),)

    def __call__(self, ids: Sequence[str]) -> Pairs:
        _enough(ids)
        place = _place(ids, self._name())
        return [(i, place) if self.moves else (place, i) for i in range(len(ids)) if i != place]

    def _name(self) -> str:
        if self.id is None:
            raise InputError("the atlas", "is not given", "id=NAME says which subject it is (data.train_pairs.id)")
        return str(self.id)


@dataclass(frozen=True)
class Chosen(Pairing):
    """Given pairs: (fixed, moving) ids."""

    pairs: Sequence[Sequence[str]]

    def __call__(self, ids: Sequence[str]) -> Pairs:
        if not self.pairs or any(not _is_list(pair) or len(pair) != 2 for pair in self.pairs):
            raise InputError(
                "pairs",
                "two ids per pair were expected, fixed and moving",
                "such as data.train_pairs.pairs=[[a,b],[a,c]]",
            )
        return [(_place(ids, str(fixed)), _place(ids, str(moving))) for fixed, moving in self.pairs]


class _AllOrdered(Sequence[tuple[int, int]]):
    """(i, j) for all i != j below n, computed when asked for."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n * (self.n - 1)

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[int, int]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, int] | list[tuple[int, int]]:
        if isinstance(index, slice):
            return [self._pair(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._pair(index % len(self))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return map(self._pair, range(len(self)))

    def _pair(self, index: int) -> tuple[int, int]:
        i, j = divmod(index, self.n - 1)
        return i, j + (j >= i)


class Split(ABC):
    """Parts subjects, or pairs of a table, into training and validation."""

    @abstractmethod
    def __call__(self, ids: Sequence[str]) -> tuple[list[str], list[str]]:
        """The ids of training and of validation, each in the order of ``ids``.

        Raises
        ------
        InputError
            If an id is unknown or training would be empty.
        """


@dataclass(frozen=True)
class First(Split):
    """The first ``train`` for training, the last ``validation`` (None: all others) for validation."""

    train: int
    validation: int | None = None

    def __call__(self, ids: Sequence[str]) -> tuple[list[str], list[str]]:
        _whole("train", self.train)
        if self.validation is not None:
            _whole("validation", self.validation)
        wanted = self.train + (self.validation or 0)
        if self.train < 1 or (self.validation or 0) < 0 or wanted > len(ids):
            numbers = f"{self.train}" if self.validation is None else f"{self.train} + {self.validation}"
            raise InputError("data.split", f"wants {numbers} subjects, there are {len(ids)}")
        rest = list(ids[self.train :])
        return list(ids[: self.train]), rest if self.validation is None else rest[len(rest) - self.validation :]


@dataclass(frozen=True)
class Fraction(Split):
    """A random share for validation, the same whenever seed and ids are the same.

    Parameters
    ----------
    validation
        Share of 0 (none) to below 1; where it is not 0, at least the two of a pair are taken, as long as two are left,
        and one of fewer.
    seed
        Of the choice.
    """

    validation: float = 0.1
    seed: int = 0

    def __call__(self, ids: Sequence[str]) -> tuple[list[str], list[str]]:
        if not is_number(self.validation) or not 0 <= self.validation < 1:
            raise InputError("data.split.validation", f"a share of 0 to below 1 was expected, got {self.validation}")
        _whole("seed", self.seed)
        if not ids:
            return [], []
        least = 0 if self.validation == 0 else min(2, max(1, len(ids) - 2))
        count = max(least, round(self.validation * len(ids)))
        # The ids are sorted for the draw, so that the order of a list does not change who is drawn.
        drawn = set(random.Random(self.seed).sample(sorted(ids), min(count, len(ids) - 1)))
        return [name for name in ids if name not in drawn], [name for name in ids if name in drawn]


@dataclass(frozen=True)
class ByName(Split):
    """The named subjects for validation; for training the named ones, or without names all others."""

    validation: Sequence[str]
    train: Sequence[str] | None = None

    def __call__(self, ids: Sequence[str]) -> tuple[list[str], list[str]]:
        for key, names in (("validation", self.validation), ("train", self.train)):
            if names is not None and not _is_list(names):
                raise InputError(f"data.split.{key}", f"a list of names was expected, got {names}", "such as [s01,s02]")
        for name in (*self.validation, *(self.train or ())):
            _place(ids, str(name))
        kept = {str(name) for name in self.validation}
        wanted = set(ids) - kept if self.train is None else {str(name) for name in self.train}
        train = [name for name in ids if name in wanted]
        both = sorted(kept & set(train))
        if both:
            raise InputError("data.split", f"{both[0]} is named for training and for validation", "take it out of one")
        if not train:
            raise InputError("data.split", f"leaves none of {len(ids)} for training")
        return train, [name for name in ids if name in kept]


def _whole(key: str, value: Any) -> None:
    if not is_whole(value):
        raise InputError(f"data.split.{key}", f"a whole number was expected, got {value!r}")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _enough(ids: Sequence[str]) -> None:
    if len(ids) < 2:
        who = f"only {ids[0]}" if ids else "no image"
        raise InputError("the dataset", f"holds {who}: a pair needs two images", "check data.root and data.split")


def _place(ids: Sequence[str], name: str) -> int:
    if name not in ids:
        import difflib

        close = difflib.get_close_matches(name, ids, n=1, cutoff=0.0)
        raise InputError(
            "the dataset", f"has no subject {name}", f"did you mean {close[0]}?" if close else "it is empty"
        )
    return list(ids).index(name)
