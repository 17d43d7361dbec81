"""Comparisons as tables on a terminal."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ..evaluation.statistics import FEWEST
from .figure_tables import named, new_table, number, show, span

if TYPE_CHECKING:
    from ..evaluation.compare import Comparison, Difference

_MOST_ROWS = 60
_FEW = "too few"


def print_comparison(comparison: Comparison) -> None:
    """Print a table for every two runs; single labels only where they are few, for the files hold them all."""
    few = len(comparison.differences) <= _MOST_ROWS
    for first, second in itertools.combinations(comparison.names, 2):
        rows = [d for d in comparison.differences if (d.first, d.second) == (first, second) and (few or not d.label)]
        if not rows:
            continue
        title = f"{second} against {first}: medians over pairs, difference {second} - {first}"
        table = new_table(title, ["", first, second, "difference", "95 %", "effect", "p (Holm)", "n", "better"])
        for difference in rows:
            table.add_row(*_cells(difference))
        show(table)
        if any(_note(difference) == _FEW for difference in rows):
            print(f"{_FEW} pairs differ: a test needs {FEWEST}")
    if not few:
        print("single labels are in comparison.csv")


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
        difference.better if p is not None and p < 0.05 else "",
    ]


def _note(difference: Difference) -> str:
    """Why there is no p, short enough for a column."""
    note = difference.test.note
    return _FEW if note.startswith(_FEW) else "equal" if note == "no difference" else note
