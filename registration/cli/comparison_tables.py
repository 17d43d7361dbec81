"""Comparisons as tables on a terminal."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..evaluation.statistics import FEWEST
from .figure_tables import named, new_table, number, show, span

if TYPE_CHECKING:
    from rich.table import Table

    from ..evaluation.compare import Comparison, Difference

_MOST_ROWS = 60
_FEW = "too few"
_HEAD = 14
SPARED = ("n", "effect", "95 %", "better")  # what is left out first where a terminal is narrow


def print_comparison(comparison: Comparison) -> None:
    """Print a table for every two runs; single labels only where they are few, for the files hold them all."""
    for table, short in tables_of(comparison):
        show(table, SPARED, "they are in comparison.csv")
        if short:
            print(f"{_FEW} pairs differ: a test needs {FEWEST}")
    if not _listed(comparison):
        print("single labels are in comparison.csv")


def tables_of(comparison: Comparison) -> Iterator[tuple[Table, bool]]:
    """A table for every two runs, and whether some of its rows have too few pairs for a test."""
    from rich.markup import escape  # names may hold brackets

    for first, second in itertools.combinations(comparison.names, 2):
        pair = [d for d in comparison.differences if (d.first, d.second) == (first, second)]
        rows = [d for d in pair if _listed(comparison) or not d.label]
        if not rows:
            continue
        title = f"{second} against {first}: medians over pairs, difference {second} - {first}"
        heads = [escape(_broken(name)) for name in (first, second)]
        table = new_table(escape(title), ["", *heads, "difference", "95 %", "effect", "p (Holm)", "n", "better"])
        for difference in rows:
            *figures, better = _cells(difference)
            table.add_row(*figures, escape(better))
        yield table, any(_note(difference) == _FEW for difference in rows)


def _listed(comparison: Comparison) -> bool:
    """Whether single labels are few enough for a terminal."""
    return len(comparison.differences) <= _MOST_ROWS


def _cells(difference: Difference) -> list[str]:
    name, unit = named(difference.metric)
    test, digits = difference.test, name.digits
    what = f"  label {difference.label}" if difference.label else name.title
    p = difference.p_holm
    return [
        f"{what} [dim]{unit}[/dim]" if unit and not difference.label else what,
        number(difference.median_first, digits),
        number(difference.median_second, digits),
        number(test.median, digits),
        span(test.low, test.high, digits),
        "-" if test.effect is None else f"{test.effect:+.2f}",
        _note(difference) if p is None else "<0.001" if p < 1e-3 else f"{p:.3f}",
        str(test.n),
        # Which run is better is told where it is more than chance.
        _better(difference) if p is not None and p < 0.05 else "",
    ]


def _broken(name: str) -> str:
    """The name of a run as the head of a column: in lines, broken at signs where there are any."""
    parts = [part for word in re.split(r"(?<=[-_./ ])", name) for part in textwrap.wrap(word, _HEAD)]
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > _HEAD:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _better(difference: Difference) -> str:
    """The better run, by its place if its name is long."""
    if max(len(difference.first), len(difference.second)) <= _HEAD or not difference.better:
        return difference.better
    return "first" if difference.better == difference.first else "second"


def _note(difference: Difference) -> str:
    """Why there is no p, short enough for a column."""
    note = difference.test.note
    return _FEW if note.startswith(_FEW) else "equal" if note == "no difference" else note
