"""Runs side by side: are the differences between the same pairs more than chance, and how large are they?"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from .definitions import METRICS
from .figure import AFTER, BEFORE
from .report.folder import Evaluation
from .report.names import KNOWN
from .statistics import CONFIDENCE, RESAMPLES, PairedTest, holm, paired_test

# What is compared without a wish: one figure of a kind, for every further one makes the correction harder.
USUAL = (
    "dice", "hd95", "assd", "tre", "ncc", "lncc", "mi", "folding", "folding_simplex", "sdlogj", "inverse_consistency",
    "seconds",
)  # fmt: skip
# Figures before registration that differ by more than this share are not of the same images.
_SAME = 1e-4

Values = Mapping[tuple[str, str], Mapping[str, float]]


@dataclass(frozen=True)
class Difference:
    """One metric of one label (empty: of the whole pair) in two runs, over the pairs that both have.

    Parameters
    ----------
    first, second
        Names of the runs; differences are second - first.
    median_first, median_second
        Of the pairs that are compared.
    test
        Of the paired differences.
    p_holm
        ``test.p`` corrected for all tests of the comparison.
    better
        Name of the run with the better ranks, "" where neither is or where the metric knows no better.
    """

    metric: str
    label: str
    first: str
    second: str
    median_first: float
    median_second: float
    test: PairedTest
    p_holm: float | None = None
    better: str = ""

    def described(self) -> dict[str, Any]:
        """As plain values, the test among them."""
        told = {name: value for name, value in asdict(self).items() if name not in ("test", "p_holm", "better")}
        test = {f"difference_{k}" if k in ("median", "low", "high") else k: v for k, v in asdict(self.test).items()}
        unit = METRICS[self.metric].unit if self.metric in METRICS else ""
        return {**told, "unit": unit, **test, "p_holm": self.p_holm, "better": self.better}


@dataclass(frozen=True)
class Comparison:
    """All differences between runs.

    Parameters
    ----------
    names
        Of the runs, in the order given.
    values
        Run -> (metric, label) -> pair -> figure after registration.
    only
        Run -> pairs that it has figures of and some other run has not.
    notices
        What stands against taking the runs for comparable.
    """

    names: tuple[str, ...]
    differences: tuple[Difference, ...]
    values: Mapping[str, Values]
    only: Mapping[str, list[str]]
    notices: tuple[str, ...] = field(default=())

    def described(self) -> dict[str, Any]:
        """Everything but the single values, ready for JSON."""
        return {
            "runs": list(self.names),
            "difference": "second - first, over the pairs that both runs have",
            "test": "two-sided Wilcoxon signed-rank test, pairs without difference left out",
            "correction": f"Holm, over all {sum(d.test.p is not None for d in self.differences)} tests of this table",
            "effect": "matched-pairs rank-biserial correlation, -1 to 1; positive where the second run is larger",
            "interval": f"{CONFIDENCE:.0%} percentile bootstrap of the median difference, {RESAMPLES} resamples",
            "only_in": {name: list(pairs) for name, pairs in self.only.items()},
            "notices": list(self.notices),
            "differences": [difference.described() for difference in self.differences],
        }


def compare(runs: Mapping[str, Evaluation], metrics: Iterable[str] | None = None, labels: bool = True) -> Comparison:
    """Compare every two of several evaluations of the same pairs.

    Parameters
    ----------
    runs
        Name -> evaluation.
    metrics
        Which to compare; :data:`USUAL` without.
    labels
        Whether every label is compared as well.
    """
    wanted = USUAL if metrics is None else tuple(metrics)
    values = {name: _values(run, AFTER, wanted, labels) for name, run in runs.items()}
    found = [
        difference
        for first, second in itertools.combinations(runs, 2)
        for difference in _between(first, second, values[first], values[second])
    ]
    corrected = holm([difference.test.p for difference in found])
    judged = {name: {row.case for row in run.rows} for name, run in runs.items()}
    common = set.intersection(*judged.values())
    return Comparison(
        tuple(runs),
        tuple(replace(difference, p_holm=p) for difference, p in zip(found, corrected, strict=True)),
        values,
        {name: sorted(pairs - common) for name, pairs in judged.items()},
        tuple(_doubts(runs)),
    )


def _values(
    run: Evaluation, when: str, metrics: Sequence[str], labels: bool
) -> dict[tuple[str, str], dict[str, float]]:
    """(metric, label) -> pair -> figure, in the order of ``metrics``, all labels before single ones."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in run.rows:
        if row.when == when and row.metric in metrics and row.value is not None and (labels or not row.label):
            found.setdefault((row.metric, row.label), {})[row.case] = row.value
    order = {metric: n for n, metric in enumerate(metrics)}
    return dict(sorted(found.items(), key=lambda item: (order[item[0][0]], len(item[0][1]), item[0][1])))


def _between(first: str, second: str, a: Values, b: Values) -> list[Difference]:
    found = []
    for key in a:
        pairs = sorted(a[key].keys() & b.get(key, {}).keys())
        if not pairs:
            continue
        x, y = (np.array([values[key][pair] for pair in pairs]) for values in (a, b))
        test = paired_test(y - x)
        way = (KNOWN[key[0]].better if key[0] in KNOWN else 0) * (test.effect or 0)
        better = second if way > 0 else first if way < 0 else ""
        medians = float(np.median(x)), float(np.median(y))
        found.append(Difference(*key, first, second, *medians, test, better=better))
    return found


def _doubts(runs: Mapping[str, Evaluation]) -> list[str]:
    """Pairs of one name that are not of the same images: their figures before registration differ."""
    doubts = []
    names = list(runs)
    start = {name: _values(run, BEFORE, ("ncc", "dice", "tre"), False) for name, run in runs.items()}
    for other in names[1:]:
        strange = {
            pair
            for key, values in start[names[0]].items()
            for pair, value in values.items()
            if abs(start[other].get(key, {}).get(pair, value) - value) > _SAME * max(1.0, abs(value))
        }
        if strange:
            some = ", ".join(sorted(strange)[:5]) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
            doubts.append(f"{names[0]} and {other} began from other images under the same names: {some}")
    return doubts
