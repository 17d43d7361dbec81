"""Transforms in a row: the files that a chain is made of, from the reference to the input, as ANTs lists them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations, product
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from ..space import Space
from ..transforms.base import Transform, compose, parts_of
from ..transforms.inverse import NumericalInverse
from .own import TransformInfo
from .transforms import read_transform

_T = TypeVar("_T")
Grids = tuple[Space | None, Space | None]
"""Of a fixed and a moving image, where they are known."""
_MARKED = re.compile(r"\[\s*(.+?)\s*(,\s*fsl\s*)?(?:,\s*([01])\s*)?\]", re.IGNORECASE)
_MOST = 4  # files whose right order is looked for


@dataclass(frozen=True)
class Link:
    """A transform file of a chain, perhaps the other way round, perhaps a matrix in the coordinates of FSL."""

    file: Path
    inverse: bool = False
    fsl: bool = False

    @staticmethod
    def of(text: str | os.PathLike[str]) -> Link:
        """``FILE``, or ``[FILE,1]`` for its inverse as ANTs writes it; a file of that very name is meant itself.

        ``[FILE,fsl]`` and ``[FILE,fsl,1]`` are matrices of FSL.
        """
        found = _MARKED.fullmatch(os.fspath(text))
        if found is None or not (found[2] or found[3]) or os.path.lexists(text):
            return Link(Path(text))
        return Link(Path(found[1]), found[3] == "1", bool(found[2]))

    def __str__(self) -> str:
        marks = ",fsl" * self.fsl + ",1" * self.inverse
        return f"[{self.file}{marks}]" if marks else str(self.file)


def named(links: Sequence[Link]) -> str:
    """The files in one phrase for messages."""
    return " then ".join(map(str, links))


def roles(name: str, links: Sequence[_T]) -> dict[str, _T]:
    """The links by what they are called in records: ``name`` is the first, ``name_2`` the second."""
    return {name if number == 1 else f"{name}_{number}": link for number, link in enumerate(links, 1)}


def linked(name: str, files: Mapping[str, Path], inverted: Sequence[str] = (), fsl: Sequence[str] = ()) -> list[Link]:
    """The links that :func:`roles` has named, from records of their files and of the names of those that are marked."""
    links: list[Link] = []
    role = name
    while role in files:
        links.append(Link(files[role], role in inverted, role in fsl))
        role = f"{name}_{len(links) + 1}"
    return links


def read_links(links: Sequence[Link], images: Grids = (None, None)) -> tuple[Transform, TransformInfo]:
    """Read transforms in a row as one, fixed RAS mm -> moving RAS mm.

    Parameters
    ----------
    links
        From the side of the fixed image to that of the moving one: points of the fixed image go through the first.
    images
        The grids of the images at both ends of the row, where they are known: matrices of FSL need theirs.

    Returns
    -------
    The transform, and what is known of it: the fixed grid of the first, the moving one of the last. Among the notices
    is where the images of neighbours differ.

    Raises
    ------
    InputError
        If a file cannot be read or inverted, they differ in dimension, or the images of a matrix of FSL are not known.
    """
    if len(links) == 1 and not links[0].inverse and not links[0].fsl:
        return read_transform(links[0].file)
    chain: Transform | None = None
    steps = _read(links, images)
    for link, (step, _) in zip(links, steps, strict=True):
        if chain is not None and step.ndim != chain.ndim:
            raise InputError(link.file, f"is a {step.ndim}-D transform, {links[0].file} a {chain.ndim}-D one")
        step = inverted(step, str(link.file)) if link.inverse else step
        chain = step if chain is None else compose(step, chain)
    assert chain is not None
    told = [info for _, info in steps]
    grids = [(info.fixed, info.moving) for info in told]
    ends = [_turned(pair, link.inverse) for pair, link in zip(grids, links, strict=True)]
    notices = tuple(dict.fromkeys(text for info in told for text in info.notices))
    origin: dict[str, Any] = {str(link): info.provenance for link, info in zip(links, told, strict=True)}
    return chain, TransformInfo(
        links[0].file, all(info.exact for info in told), ends[0][0], ends[-1][1],
        provenance={"transforms in a row": origin}, notices=(*notices, *_misfits(links, grids)),
    )  # fmt: skip


def _read(links: Sequence[Link], images: Grids) -> list[tuple[Transform, TransformInfo]]:
    """The transforms as their files hold them; those of FSL lie between the images that their neighbours know."""
    from .flirt import read_flirt

    found = [None if link.fsl else read_transform(link.file) for link in links]
    ends = [(None, None) if one is None else _turned((one[1].fixed, one[1].moving), link.inverse)
            for link, one in zip(links, found, strict=True)]  # fmt: skip
    steps = []
    for place, (link, one) in enumerate(zip(links, found, strict=True)):
        if one is None:
            before = images[0] if place == 0 else ends[place - 1][1]
            after = images[1] if place == len(links) - 1 else ends[place + 1][0]
            fixed, moving = _turned((before, after), link.inverse)
            if fixed is None or moving is None:
                missing = "fixed" if fixed is None else "moving"
                raise InputError(
                    str(link), f"counts in the voxels of both images, and its {missing} image is not known here",
                    "registration convert with --fixed and --moving makes a .tfm of it, which can be used anywhere",
                )  # fmt: skip
            one = read_flirt(link.file, fixed, moving), TransformInfo(link.file, False, fixed, moving)
        steps.append(one)
    return steps


def inverted(chain: Transform, file: str) -> Transform:
    """The inverse of what was read from ``file``; where it folds, the nearest points, and a warning says how many miss.

    Raises
    ------
    InputError
        If there is none.
    """
    try:
        backward = chain.inverse()
    except (ValueError, NotImplementedError) as error:
        raise InputError(file, f"cannot be inverted: {error}") from error
    result: Transform | None = None
    for part in parts_of(backward):
        if isinstance(part, NumericalInverse):
            part = NumericalInverse(part.forward, part.tolerance, strict=False)
        result = part if result is None else compose(result, part)
    assert result is not None
    return result


def _turned(grids: Grids, inverse: bool) -> Grids:
    return (grids[1], grids[0]) if inverse else grids


def _misfits(links: Sequence[Link], grids: Sequence[Grids]) -> list[str]:
    """A word where the moving grid of a file and the fixed one of the next differ, and the order in which they fit."""
    ends = [_turned(pair, link.inverse) for pair, link in zip(grids, links, strict=True)]
    for (one, (_, left)), (other, (arrives, _)) in pairwise(zip(links, ends, strict=True)):
        if left is None or arrives is None or left.same_as(arrives):
            continue
        problem = (
            f"{one} leads to an image of {left.describe()}, but {other} after it was made for a fixed image of "
            f"{arrives.describe()}"
        )
        better = next(_fitting(links, grids), None)
        if better is None:
            return [f"{problem}; do they belong together?"]
        order = " ".join(f"--transform {link}" for link in better)
        return [f"{problem}; in the order {order}, from the fixed side to the moving one, their images fit"]
    return []


def _fitting(links: Sequence[Link], grids: Sequence[Grids]) -> Iterator[list[Link]]:
    """Orders and directions in which all images of neighbours are the same, those with the fewest changes first."""
    count = len(links)
    twice = len({link.file for link in links}) < count
    if count > _MOST or twice or any(grid is None for pair in grids for grid in pair):
        return
    ways = product(product((False, True), repeat=count), permutations(range(count)))
    for turned, order in sorted(ways, key=lambda way: (sum(way[0]), way[1] != tuple(range(count)))):
        tried = [replace(links[i], inverse=links[i].inverse != turned[i]) for i in order]
        ends = [_turned(grids[i], link.inverse) for i, link in zip(order, tried, strict=True)]
        if all(a is not None and b is not None and a.same_as(b) for (_, a), (b, _) in pairwise(ends)):
            yield tried
