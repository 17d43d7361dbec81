"""A comparison as a picture: every pair a line from run to run, the runs as boxes, a panel per metric."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compare import Comparison, Difference
from .definitions import METRICS
from .report.names import KNOWN
from .saving import drawable, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS, _PANEL = 4, (2.7, 2.5)  # inches
_LINE, _BOX, _MEDIAN = "#9aa5b1", "#2f6690", "#c8553d"
_LONGEST = 14


def write_comparison_plot(paths: list[Path], comparison: Comparison) -> None:
    """Draw the metrics of whole pairs and write the picture; the ending of each path chooses its format.

    Nothing is written where no metric has pairs in common.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(difference.metric for difference in comparison.differences if not difference.label))
    if not metrics:
        return
    columns = min(_COLUMNS, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    with rc_context({"svg.fonttype": "none", "font.size": 8}):
        figure = Figure((_PANEL[0] * columns, _PANEL[1] * rows + 0.3), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for metric, panel in zip(metrics, axes, strict=False):
            _draw(panel, comparison, metric)
        for panel in axes[len(metrics) :]:
            panel.set_axis_off()
        for path in paths:
            save_figure(figure, path, 160)


def _draw(panel: Axes, comparison: Comparison, metric: str) -> None:
    names = comparison.names
    values = [comparison.values[name].get((metric, ""), {}) for name in names]
    pairs = sorted(set().union(*values))
    for pair in pairs:
        known = [(n, found[pair]) for n, found in enumerate(values) if pair in found]
        panel.plot(*zip(*known, strict=True), color=_LINE, lw=0.5, alpha=min(0.8, 12 / len(pairs) + 0.1), zorder=1)
    style: dict[str, Any] = {
        "boxprops": {"color": _BOX}, "whiskerprops": {"color": _BOX}, "capprops": {"color": _BOX},
        "medianprops": {"color": _MEDIAN, "lw": 1.6},
    }  # fmt: skip
    filled = [n for n, found in enumerate(values) if found]
    panel.boxplot(
        [list(values[n].values()) for n in filled], positions=filled, widths=0.35, showfliers=False, zorder=2, **style
    )
    known_as = KNOWN[metric].title if metric in KNOWN else metric
    unit = METRICS[metric].unit if metric in METRICS else ""
    arrow = {1: " ↑", -1: " ↓", 0: ""}[KNOWN[metric].better if metric in KNOWN else 0]
    panel.set_title(f"{known_as}{f' [{unit}]' if unit else ''}{arrow}", fontsize=9, loc="left")
    turn = 20 if len(names) > 3 else 0
    panel.set_xticks(range(len(names)), [_short(drawable(name)) for name in names], rotation=turn, parse_math=False)
    panel.set_xlim(-0.5, len(names) - 0.5)
    panel.spines[["top", "right"]].set_visible(False)
    here = [d for d in comparison.differences if d.metric == metric and not d.label]
    if len(names) == 2 and here:
        panel.set_xlabel(p_value(here[0]), fontsize=8, color="#555555")


def p_value(difference: Difference) -> str:
    """The corrected p as text, or why there is none."""
    if difference.p_holm is None:
        return f"n = {difference.test.n}, {difference.test.note.split(' (')[0]}"
    text = "p < 0.001" if difference.p_holm < 1e-3 else f"p = {difference.p_holm:.3f}"
    return f"n = {difference.test.n}, {text}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
