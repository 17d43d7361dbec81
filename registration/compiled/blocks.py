"""How much is worked on at a time: what a core's cache holds on the CPU, and enough to fill any other device."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_FILLED = 1 << 24


def at_once(like: Tensor, cached: int, filled: int = _FILLED) -> int:
    """Entries of a block on the device of ``like``: ``cached`` on the CPU, ``filled`` elsewhere.

    Elsewhere every small operation costs as much as starting it does. Neither number depends on what memory is free,
    so that results do not either.
    """
    return cached if like.device.type == "cpu" else filled


def groups(batch: Tensor, entries: int) -> Iterator[tuple[slice, slice]]:
    """Cut (B, C, *S) into items and channels of no more than so many entries; a channel of an item is never cut."""
    items, channels = batch.shape[:2]
    voxels = max(1, batch[0, 0].numel())
    wide = max(1, min(channels, entries // voxels))
    deep = max(1, min(items, entries // (voxels * channels)))
    for item in range(0, items, deep):
        for channel in range(0, channels, wide):
            yield slice(item, min(items, item + deep)), slice(channel, min(channels, channel + wide))
