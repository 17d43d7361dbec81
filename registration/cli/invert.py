"""``registration invert``: the transform the other way round."""

from __future__ import annotations

from .convert import Fixed, Fsl, Moving, Slicer, To, links_of, load, report, save
from .options import Overwrite, Quiet, TransformFiles


def invert(
    transform: TransformFiles,
    output: To,
    fixed: Fixed = None,
    moving: Moving = None,
    slicer: Slicer = False,
    fsl: Fsl = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write the inverse of TRANSFORM, moving -> fixed, in the format that the ending of OUTPUT names.

    Several are taken as one, given from the fixed side to the moving one. Where TRANSFORM folds there is no inverse:
    the nearest points stand there, and a note says how many and how far off.
    """
    from ..io.links import inverted, named
    from .inverting import telling_misses

    links = links_of(transform)
    chain, info, notices = load(links, output, overwrite, (fixed, moving))
    origin = {"inverse of": info.provenance or named(links)}
    with telling_misses(notices):
        save(output, inverted(chain, named(links)), (info.moving, info.fixed), slicer, origin, fsl)
    report(output, notices, quiet)
