"""Numbers about numbers: summaries with bootstrap intervals, and tests of paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 5000
FEWEST = 6  # pairs below which no two-sided signed-rank test can reach p < 0.05


def summarise(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, median, standard deviation, extremes, and an interval for the mean.

    Parameters
    ----------
    values
        One number per pair.

    Returns
    -------
    ``mean, median, std`` (of the sample, n - 1), ``min, max, n``, and ``low, high``: the percentile bootstrap interval
    of the mean (Efron 1979) over pairs at ``confidence``. None where there are too few values.
    """
    data = np.asarray(values, dtype=np.float64)
    if not data.size:
        names = ("mean", "median", "std", "min", "max", "low", "high")
        return {**dict.fromkeys(names), "n": 0, "confidence": CONFIDENCE}
    low, high = interval(data, np.mean)
    return {
        "mean": float(data.mean()),
        "median": float(np.median(data)),
        "std": float(data.std(ddof=1)) if data.size > 1 else None,
        "min": float(data.min()),
        "max": float(data.max()),
        "n": int(data.size),
        "low": low,
        "high": high,
        "confidence": CONFIDENCE,
    }


def interval(values: np.ndarray, statistic: object) -> tuple[float | None, float | None]:
    """Percentile bootstrap interval of a statistic of (N,) values, the same on every call; None for fewer than two."""
    from scipy.stats import bootstrap

    if len(values) < 2:
        return None, None
    if values.min() == values.max():
        return float(values[0]), float(values[0])
    batch = max(1, (1 << 21) // len(values))  # resamples held at once
    found = bootstrap(
        (values,), statistic, n_resamples=RESAMPLES, batch=batch, confidence_level=CONFIDENCE, method="percentile",
        random_state=0,
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class PairedTest:
    """What (N,) paired differences say.

    Parameters
    ----------
    n
        Pairs.
    median, low, high
        Of the differences, and its bootstrap interval.
    p
        Two-sided Wilcoxon signed-rank test (1945), pairs without difference left out; None for fewer than six others.
    effect
        Matched-pairs rank-biserial correlation (Kerby 2014), in [-1, 1]: the share of ranks of positive differences
        less that of negative ones; None without any difference.
    note
        Why there is no p.
    """

    n: int
    median: float
    low: float | None
    high: float | None
    p: float | None
    effect: float | None
    note: str = ""


def paired_test(differences: np.ndarray) -> PairedTest:
    """Test whether (N,) differences, N > 0, are about 0."""
    from scipy.stats import rankdata, wilcoxon

    low, high = interval(differences, np.median)
    moved = differences[differences != 0]
    effect = p = None
    note = ""
    if len(moved):
        ranks = rankdata(np.abs(moved))
        effect = float((ranks * np.sign(moved)).sum() / ranks.sum())
    if len(moved) >= FEWEST:
        p = float(wilcoxon(moved, zero_method="wilcox", method="auto").pvalue)
    elif not len(moved):
        note = "no difference"
    else:
        note = f"too few pairs for a test ({len(moved)} differ, {FEWEST} are needed)"
    return PairedTest(len(differences), float(np.median(differences)), low, high, p, effect, note)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) step-down correction of the p-values that are there, for as many tests as there are."""
    known = sorted((p, n) for n, p in enumerate(p_values) if p is not None)
    result: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, n) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        result[n] = highest
    return result
