"""The order of pairs: a function of seed and epoch, with a position that a checkpoint can hold."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Sampler

from ...errors import InputError
from ...limits import is_whole

_MOST = 1 << 30  # pairs of an epoch: their order is a list in memory


class PairSampler(Sampler[int]):
    """Indices of pairs, epoch by epoch.

    Workers fetch ahead of the training, so only the loop knows how far it is: it calls :meth:`advance` after each
    batch it has used, and :meth:`next_epoch` at the end. An iterator begins at the position; what it yields does not
    move it.

    Parameters
    ----------
    size
        Pairs of the dataset.
    seed
        With the epoch decides the order.
    per_epoch
        Pairs drawn for one epoch, without repetition as long as there are as many; None for all.
    shuffle
        Whether the order is random; else it is that of the dataset.
    rank, ranks
        This process and how many there are: each takes every ``ranks``-th pair, all equally many. Pairs are repeated
        for that where their number is not divisible.
    """

    def __init__(
        self,
        size: int,
        seed: int = 0,
        per_epoch: int | None = None,
        shuffle: bool = True,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if size < 1:
            raise InputError("the dataset", "is empty: there are no pairs", "check data.root and data.split")
        if per_epoch is not None and not (is_whole(per_epoch) and per_epoch >= 1):
            raise InputError("data.per_epoch", f"a whole number of pairs from 1 was expected, got {per_epoch}")
        if (size if per_epoch is None else per_epoch) > _MOST:
            raise InputError("data.per_epoch", f"an epoch has {_MOST} pairs at most", "give a lower number")
        if not 0 <= rank < ranks:
            raise ValueError(f"a rank of 0 to {ranks - 1} was expected, got {rank}")
        self.size, self.seed, self.shuffle, self.rank, self.ranks = size, seed, shuffle, rank, ranks
        self.per_epoch = size if per_epoch is None else per_epoch
        self.epoch = self.position = 0
        self.repeated: int | None = None

    def order(self) -> list[int]:
        """All indices of this process in this epoch."""
        chosen: list[int] = []
        generator = random.Random(f"{self.seed} {self.epoch if self.repeated is None else self.repeated}")
        while len(chosen) < self.per_epoch:
            count = min(self.size, self.per_epoch - len(chosen))
            chosen += generator.sample(range(self.size), count) if self.shuffle else range(count)
        if self.shuffle and self.repeated is not None:
            random.Random(f"{self.seed} {self.epoch} again").shuffle(chosen)
        chosen += (chosen * self.ranks)[: -len(chosen) % self.ranks]
        return chosen[self.rank :: self.ranks]

    def __iter__(self) -> Iterator[int]:
        return iter(self.order()[self.position :])

    def __len__(self) -> int:
        """Indices left in this epoch."""
        return max(0, -(-self.per_epoch // self.ranks) - self.position)

    def advance(self, count: int) -> None:
        """Count pairs as used."""
        self.position += count

    def next_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch, self.position = self.epoch + 1, 0

    def repeat(self) -> None:
        """Let the pairs of this epoch come again in every later one, each time in another order."""
        if self.repeated is None:
            self.repeated = self.epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch, unless it is the present one."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Seed, size, epoch and position (of each process), and the epoch that is repeated."""
        return {
            "seed": self.seed, "size": self.size, "epoch": self.epoch, "position": self.position,
            "repeated": self.repeated,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where :meth:`state_dict` was taken.

        Raises
        ------
        InputError
            If the dataset has another number of pairs or the seed differs, as the order then is another.
        """
        for name, words in (("size", "pairs"), ("seed", "the seed")):
            if state[name] != getattr(self, name):
                was, now = state[name], getattr(self, name)
                raise InputError(
                    "the checkpoint", f"was made with {words} {was}, now it is {now}: the order of pairs is another",
                    "resume with the same data and seed",
                )  # fmt: skip
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self.repeated = state.get("repeated")


class PairLoader(DataLoader[Any]):
    """A ``DataLoader`` that lets a bad file found by a worker be told in the one line it was told there."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except InputError as error:
            # torch raises the error of a worker again with the worker's traceback for a text.
            raise InputError(str(error).rpartition("registration.errors.InputError: ")[2]) from error
