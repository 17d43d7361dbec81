"""``registration invert``: the transform the other way round."""

from __future__ import annotations

from .convert import Fixed, Moving, Slicer, To, load, report, save
from .options import Overwrite, Quiet, TransformFile


def invert(
    transform: TransformFile,
    output: To,
    fixed: Fixed = None,
    moving: Moving = None,
    slicer: Slicer = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write the inverse of TRANSFORM, moving -> fixed, in the format that the ending of OUTPUT names.

    Where TRANSFORM folds there is no inverse: the nearest points stand there, and a note says how many and how far off.
    """
    from .inverting import inverted, telling_misses

    chain, info, notices = load(transform, output, overwrite, (fixed, moving))
    origin = {"inverse of": info.provenance or str(transform)}
    with telling_misses(notices):
        save(output, inverted(chain, transform), (info.moving, info.fixed), slicer, origin)
    report(output, notices, quiet)
