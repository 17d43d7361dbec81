"""Figures as tables on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..evaluation.definitions import METRICS
from ..evaluation.report.names import KNOWN, Name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# What a person looks at first; everything else is in the files.
SHOWN = (
    "dice", "hd95", "assd", "tre", "tre_max", "ncc", "lncc", "mi", "mse", "folding", "folding_simplex", "sdlogj",
    "inverse_consistency", "seconds",
)  # fmt: skip
_WIDTH = 160


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print ``summary.json``: per metric the means before and after, the interval of the latter, and the worst pair."""
    counts = summary["counts"]
    table = new_table(f"{counts['judged']} of {counts['pairs']} pairs", ["", "before", "after", "95 %", "worst", "n"])
    for metric in (name for name in SHOWN if name in summary["metrics"]):
        before, after = (summary["metrics"][metric].get(when) for when in ("before", "after"))
        name, unit = named(metric)
        told = after or {}
        worst = told.get("min" if name.better > 0 else "max")
        table.add_row(
            f"{name.title} [dim]{unit}[/dim]" if unit else name.title,
            number((before or {}).get("mean"), name.digits),
            number(told.get("mean"), name.digits),
            span(told.get("low"), told.get("high"), name.digits),
            number(worst, name.digits),
            str(told.get("n", 0)),
        )
    show(table, ("n", "worst"), "they are in summary.json")
    for text in _remarks(summary):
        print(text)


def _remarks(summary: Mapping[str, Any]) -> list[str]:
    remarks = []
    for key, what in (("missing", "in one of two images only"), ("lost", "warped out of sight, counted as overlap 0")):
        entries = summary[key]
        if entries:
            some = ", ".join(f"{entry['label']} of {entry['id']}" for entry in entries[:5])
            remarks.append(f"labels {what}: {some}{f' and {len(entries) - 5} more' if len(entries) > 5 else ''}")
    return remarks


def named(metric: str) -> tuple[Name, str]:
    """How a metric is called, and its unit."""
    return KNOWN.get(metric) or Name(metric.replace("_", " ")), METRICS[metric].unit if metric in METRICS else ""


def new_table(title: str, columns: Sequence[str]) -> Table:
    """A plain table: the first column is text, the others are numbers."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left", no_wrap=True)
    return table


def show(table: Table, spared: Sequence[str] = (), where: str = "") -> None:
    """Print a table to stdout, as wide as the terminal, or as it needs to be in a file.

    Where it does not fit, columns of these names are left out, the first first, and it is said ``where`` they are.
    """
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    left_out = narrowed(table, console, spared)
    console.print(table)
    if left_out:
        print(f"no room for {', '.join(left_out)}: {where}" if where else f"no room for {', '.join(left_out)}")


def narrowed(table: Table, console: Console, spared: Sequence[str]) -> list[str]:
    """Take columns out of a table, the first of ``spared`` first, until it fits on a console; those that went."""
    from rich.measure import Measurement

    gone = []
    for name in spared:
        if Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width:
            break
        table.columns = [column for column in table.columns if column.header != name]
        gone.append(name)
    return gone


def number(value: float | None, digits: int) -> str:
    """A figure with so many digits behind the point; a dash where there is none."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:.4g}" if abs(value) >= 1e7 else f"{value:,.0f}"
    text = f"{value:.{digits if abs(value) < 100 else min(digits, 1)}f}"
    # What is small but not nothing must not look like nothing.
    return text if float(text) else f"{value:.1g}"


def span(low: float | None, high: float | None, digits: int) -> str:
    """An interval."""
    return "-" if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"
