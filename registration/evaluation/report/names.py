"""How the page calls a metric, which way is better, and with how many digits it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Name:
    """What is known of a metric.

    Parameters
    ----------
    title
        For headings.
    better
        1 where more is better, -1 where less is, 0 where neither is.
    digits
        Behind the point.
    """

    title: str
    better: int = 0
    digits: int = 3


KNOWN = {
    "dice": Name("Dice", 1),
    "jaccard": Name("Jaccard", 1),
    "hd95": Name("HD95", -1, 2),
    "assd": Name("ASSD", -1, 2),
    "tre": Name("TRE, mean", -1, 2),
    "tre_median": Name("TRE, median", -1, 2),
    "tre_max": Name("TRE, largest", -1, 2),
    "ncc": Name("NCC", 1),
    "lncc": Name("Local NCC", 1),
    "mi": Name("Mutual information", 1),
    "mse": Name("MSE", -1, 4),
    "folding": Name("Folding", -1),
    "folding_simplex": Name("Folding, simplices", -1),
    "sdlogj": Name("SD of log Jacobian", 0),
    "jacobian_min": Name("Jacobian, smallest"),
    "jacobian_p01": Name("Jacobian, 1st percentile"),
    "jacobian_p05": Name("Jacobian, 5th percentile"),
    "jacobian_p50": Name("Jacobian, median"),
    "jacobian_p95": Name("Jacobian, 95th percentile"),
    "jacobian_p99": Name("Jacobian, 99th percentile"),
    "jacobian_max": Name("Jacobian, largest"),
    "inverse_consistency": Name("Inverse consistency", -1),
    "inverse_consistency_p95": Name("Inverse consistency, 95th percentile", -1),
    "seconds": Name("Time", -1, 1),
    "l2r_dice": Name("Learn2Reg Dice", 1),
    "l2r_hd95": Name("Learn2Reg HD95", -1, 2),
    "l2r_tre": Name("Learn2Reg TRE", -1, 2),
    "l2r_sdlogj": Name("Learn2Reg SDlogJ", 0),
}


def described(metrics: list[str], units: dict[str, str], definitions: dict[str, str]) -> list[dict[str, Any]]:
    """Metrics in the order of reading, with title, direction, digits, unit and definition; unknown ones come last."""
    order = list(KNOWN)
    ranked = sorted(metrics, key=lambda name: (order.index(name) if name in KNOWN else len(order), name))
    result = []
    for name in ranked:
        known = KNOWN.get(name) or Name(_spelled(name))
        result.append(
            {"name": name, "unit": units.get(name, ""), "definition": definitions.get(name, ""), **asdict(known)}
        )
    return result


def _spelled(name: str) -> str:
    """jacobian_p01 -> Jacobian, 1st percentile; anything else with spaces."""
    head, _, tail = name.rpartition("_")
    if head and tail[:1] == "p" and tail[1:].isdigit():
        number = int(tail[1:])
        ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
        return f"{head.replace('_', ' ').capitalize()}, {number}{ending} percentile"
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]
