"""Label maps in files of several volumes: what is said where the volume that is asked for is not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..batch.table import PairRow
    from .pair_work import HowToRead


def no_such_volume(path: Path, channel: int | None, count: int) -> InputError:
    """The error for a label file of ``count`` volumes of which ``channel`` picks none."""
    numbers = f"0 ... {count - 1}"
    if channel is None:
        cure = f"choose with --label-channel {numbers}, or a column label_channel in a table of pairs"
        return InputError(path, f"holds {count} volumes, a label map is one", cure)
    held = "it holds one volume, 0 or no --label-channel reads it" if count == 1 else f"it has {numbers}"
    return InputError(path, f"has no label channel {channel}", held)


def check_label_channels(rows: Sequence[PairRow], reading: HowToRead) -> None:
    """Look into the headers of all label files, before anything starts.

    Raises
    ------
    InputError
        If the volume that is asked for is not there: names the first such file, and says how many there are.
    """
    from ..io.volumes import count_volumes

    counts: dict[Path, int | None] = {}
    wrong: dict[Path, InputError] = {}
    for row in rows:
        channel = reading.of_pair(row).label_channel
        for path in (row.fixed_labels, row.moving_labels):
            if path is None or path in wrong:
                continue
            if path not in counts:
                counts[path] = count_volumes(path)
            count = counts[path]
            if count is not None and (count > 1 if channel is None else channel >= count):
                wrong[path] = no_such_volume(path, channel, count)
    if not wrong:
        return
    first, *more = wrong.values()
    if more:
        raise InputError(str(first), f"likewise {len(more)} more of the label files in the table")
    raise first
