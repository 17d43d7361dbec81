"""Several pairs as tensors: what the loop moves to the device and the objective sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..image import Image
from ..space import Space
from ..transforms.linear import Linear
from .starts import Start, to_upright, upright


@dataclass(frozen=True, eq=False)
class PairBatch:
    """B pairs in the upright frame: all fixed images on one grid, all moving images on one grid.

    Parameters
    ----------
    fixed, moving
        (B, C, *S) images with their masks, if there are any.
    initial
        Where each pair starts from, fixed mm -> moving mm of the upright frames; B matrices, or one for all.
    ids
        B names.
    fixed_labels, moving_labels
        (B, 1, *S) integer labels, or None.
    points
        For each pair the (N, D) fixed and moving landmarks in mm of the upright frames, or None.
    """

    fixed: Image
    moving: Image
    initial: Linear
    ids: tuple[str, ...]
    fixed_labels: Tensor | None = None
    moving_labels: Tensor | None = None
    points: tuple[tuple[Tensor, Tensor], ...] | None = None

    @property
    def size(self) -> int:
        """Number of pairs B."""
        return len(self.ids)

    def to(self, device: torch.device) -> PairBatch:
        """The same batch on another device; from pinned memory to CUDA without waiting for it."""
        ahead = torch.device(device).type == "cuda"
        return self._each(lambda x: x.to(device, non_blocking=ahead))

    def pin_memory(self) -> PairBatch:
        """The same batch in memory that CUDA reads by itself; loaders that pin memory call it."""
        return self._each(lambda x: x.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> PairBatch:
        """The same batch after a change of all tensors but the start, which stays on the CPU."""

        def changed(x: Tensor | None) -> Tensor | None:
            return None if x is None else change(x)

        fixed, moving = (replace(i, data=change(i.data), mask=changed(i.mask)) for i in (self.fixed, self.moving))
        points = None if self.points is None else tuple((change(a), change(b)) for a, b in self.points)
        return PairBatch(
            fixed, moving, self.initial, self.ids, changed(self.fixed_labels), changed(self.moving_labels), points
        )

    def both_ways(self) -> PairBatch:
        """2B pairs: these, then the same with the images exchanged.

        Raises
        ------
        InputError
            If fixed and moving images have different grids, which one batch cannot hold.
        """
        f, m = self.fixed, self.moving
        if not f.space.same_as(m.space):
            raise InputError(
                "trainer.symmetric", f"needs both images on one grid, {self.ids[0]} has {f.space.describe()} and "
                f"{m.space.describe()}", "preprocess both to one shape and spacing, or trainer.symmetric=false",
            )  # fmt: skip
        masks = None
        if f.mask is not None and m.mask is not None:
            masks = (torch.cat([f.mask, m.mask]), torch.cat([m.mask, f.mask]))
        labels: tuple[Tensor | None, Tensor | None] = (None, None)
        if self.fixed_labels is not None and self.moving_labels is not None:
            labels = (
                torch.cat([self.fixed_labels, self.moving_labels]), torch.cat([self.moving_labels, self.fixed_labels])
            )  # fmt: skip
        back = self.initial.inverse()
        initial = self.initial
        if self.initial.batched:
            initial = Linear(torch.cat([self.initial.matrix, back.matrix]))
        elif not self.initial.is_identity():
            initial = Linear(torch.cat([t.matrix.expand(self.size, -1, -1) for t in (self.initial, back)]))
        points = None if self.points is None else (*self.points, *((b, a) for a, b in self.points))
        return PairBatch(
            replace(f, data=torch.cat([f.data, m.data]), mask=None if masks is None else masks[0]),
            replace(m, data=torch.cat([m.data, f.data]), mask=None if masks is None else masks[1]),
            initial, (*self.ids, *self.ids), labels[0], labels[1], points,
        )  # fmt: skip


class Collate:
    """Dataset items -> a :class:`PairBatch`.

    An item has ``fixed`` and ``moving`` (C, *S), their ``_affine`` (D+1, D+1, voxel -> RAS mm), perhaps ``_labels``
    (1, *S), ``_mask`` (1, *S) and ``_points`` (N, D) in RAS mm, and an ``id``.

    Parameters
    ----------
    start
        The first guess for each pair.
    """

    def __init__(self, start: Start) -> None:
        self.start = start

    def __call__(self, items: Sequence[dict[str, Any]]) -> PairBatch:
        """The batch of some items.

        Raises
        ------
        InputError
            If their grids differ in shape or spacing.
        """
        sides = {side: [Space(tuple(i[side].shape[1:]), i[f"{side}_affine"]) for i in items] for side in _SIDES}
        for side, spaces in sides.items():
            _alike(side, spaces, items)
        frames = {side: [to_upright(space) for space in spaces] for side, spaces in sides.items()}
        matrices = torch.stack([
            m @ self.start(*spaces).matrix @ torch.linalg.inv(f)
            for f, m, spaces in zip(frames["fixed"], frames["moving"], zip(*sides.values(), strict=True), strict=True)
        ])  # fmt: skip
        eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype)
        still = bool((matrices - eye).abs().max() < 1e-9)  # the usual case, and one the networks need no warp for
        images = {
            side: Image(_stacked(items, side), upright(spaces[0]), _stacked_or_none(items, f"{side}_mask"), side)
            for side, spaces in sides.items()
        }
        points = None
        if all("fixed_points" in item and "moving_points" in item for item in items):
            points = tuple(
                (Linear(f)(item["fixed_points"].double()), Linear(m)(item["moving_points"].double()))
                for f, m, item in zip(frames["fixed"], frames["moving"], items, strict=True)
            )
        return PairBatch(
            images["fixed"], images["moving"], Linear(eye) if still else Linear(matrices),
            tuple(str(item["id"]) for item in items),
            _stacked_or_none(items, "fixed_labels"), _stacked_or_none(items, "moving_labels"), points,
        )  # fmt: skip


_SIDES = ("fixed", "moving")


def _stacked(items: Sequence[dict[str, Any]], key: str) -> Tensor:
    return torch.stack([item[key] for item in items])


def _stacked_or_none(items: Sequence[dict[str, Any]], key: str) -> Tensor | None:
    return _stacked(items, key) if all(key in item for item in items) else None


def _alike(side: str, spaces: Sequence[Space], items: Sequence[dict[str, Any]]) -> None:
    """Refuse a batch whose images cannot share one grid."""
    first = spaces[0]
    for space, item in zip(spaces[1:], items[1:], strict=True):
        if space.shape != first.shape or bool(((space.spacing / first.spacing - 1).abs() > 1e-3).any()):
            raise InputError(
                f"pair {item['id']}", f"its {side} image has {space.describe()}, pair {items[0]['id']} has "
                f"{first.describe()}", "preprocess all images to one shape and spacing (preprocessing.spacing)",
            )  # fmt: skip
