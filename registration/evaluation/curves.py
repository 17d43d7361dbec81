"""The curves of a training as a picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from .saving import save_figure

_SMOOTH = 0.01  # share of the training over which losses are averaged


def write_curves(path: Path, steps: Path, validations: Path) -> None:
    """Loss and its terms by step; Dice or landmark distance of the validation pairs, and the rate of learning.

    Parameters
    ----------
    path
        A PNG, written whole or not at all.
    steps, validations
        The tables ``train.csv`` and ``validation.csv`` of a run.
    """
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    train, held = _table(steps), _table(validations)
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _losses(left, train, held)
    name, words = ("dice", "Dice, validation pairs") if _known(held, "dice") else ("tre", "landmark distance (mm)")
    if _known(held, name):
        middle.plot(held["step"], held[name], "o-", ms=3, lw=1.2)
        best = int(np.nanargmax(held[name]) if name == "dice" else np.nanargmin(held[name]))
        middle.plot(held["step"][best], held[name][best], "o", ms=7, mfc="none", color="C3")
        middle.set_title(f"best {held[name][best]:.4f} at step {held['step'][best]:.0f}", fontsize=10)
    middle.set(xlabel="step", ylabel=words)
    right.plot(train["step"], _averaged(train["gradient"]), lw=1, label="length of the gradient")
    right.plot(train["step"], train["rate"], lw=1, label="learning rate")
    right.set(xlabel="step", yscale="log")
    right.legend(fontsize=8)
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, 110)


def _losses(axes: Any, train: dict[str, np.ndarray], held: dict[str, np.ndarray]) -> None:
    skipped = {"step", "minutes", "gradient", "rate"}
    curves = {name: _averaged(train[name]) for name in train if name not in skipped}
    for name, curve in curves.items():
        axes.plot(train["step"], curve, lw=1.6 if name == "loss" else 1, label=name)
    if _known(held, "loss"):
        axes.plot(held["step"], held["loss"], "k.--", lw=0.8, ms=4, label="loss, validation")
    # A few steps where a training was thrown off, or a term began, must not hide all others.
    usual = np.nanquantile(np.concatenate(list(curves.values())), [0.005, 0.985])
    reached = np.concatenate([usual, held.get("loss", usual)])
    low, high = np.nanmin(reached), np.nanmax(reached)
    if high > low:
        axes.set_ylim(low - 0.08 * (high - low), high + 0.15 * (high - low))
    axes.set(xlabel="step", ylabel="running mean")
    axes.legend(fontsize=8)


def _known(table: dict[str, np.ndarray], name: str) -> bool:
    return name in table and bool(np.isfinite(table[name]).any())


def _averaged(values: np.ndarray) -> np.ndarray:
    """A running mean; a noisy curve hides where it goes."""
    width = max(1, round(_SMOOTH * len(values)))
    padded = np.concatenate([np.full(width - 1, np.nan), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)
    counts = np.isfinite(windows).sum(axis=1)
    # A term that has not begun is nowhere a number.
    return np.where(counts, np.nansum(windows, axis=1) / np.maximum(counts, 1), np.nan)


def _table(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    columns = zip(*rows[1:], strict=True)
    numbers = [np.array([float(cell) if cell else np.nan for cell in column]) for column in columns]
    return dict(zip(rows[0], numbers, strict=False))
