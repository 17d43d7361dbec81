"""The table of the rivals benchmark: rows from results, as text, as Markdown, or as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Cells = list[str]
YARDSTICK = "ants"


def mean(cases: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """The mean of a figure over registrations; None where a tool does not give it."""
    values = [case[key] for case in cases if case.get(key) is not None]
    return sum(values) / len(values) if values else None


def lost(cases: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Whether a figure was sought and could not be had in some registration; a tool that does not give it lost none."""
    return any(key in case and case[key] is None for case in cases)


def summary(result: Mapping[str, Any], yardstick: float | None) -> dict[str, Any]:
    """The figures of one row: means over the registrations, the least Dice, the largest memory."""
    cases = result["cases"]
    seconds = mean(cases, "seconds")
    peaks = [case["megabytes"] for case in cases if case.get("megabytes") is not None]
    row: dict[str, Any] = {key: mean(cases, key) for key in ("dice", "dice_shared", "folding_percent")}
    row["dice_least"] = min((case["dice"] for case in cases if case["dice"] is not None), default=None)
    row["seconds"], row["processor_seconds"] = seconds, mean(cases, "processor_seconds")
    row["gigabytes"] = max(peaks) / 1024 if peaks else None
    row["ratio"] = seconds / yardstick if seconds is not None and yardstick else None
    for key in ("inverse_mm", "swap_mm"):
        row[key] = None if lost(cases, key) else mean(cases, key)
    return row


def table(results: Mapping[str, Mapping[str, Any]]) -> list[Cells]:
    """The header and one row per tool; a tool that has no result says why in its second cell.

    Parameters
    ----------
    results
        Tool -> {"title", "cases": [figures of every registration]} or {"title", "problem": why there is none}.
    """
    good = {name: result for name, result in results.items() if "cases" in result}
    yardstick = mean(good[YARDSTICK]["cases"], "seconds") if YARDSTICK in good else None
    rows = {name: summary(result, yardstick) for name, result in good.items()}
    more = any(row["dice_shared"] is not None for row in rows.values())
    header = ["tool", "Dice", *(["15 shared"] if more else []), "least", "folding %", "seconds", "processor s"]
    header += ["x ANTs", "peak GB", "inverse mm", "swap mm"]
    cells = [header]
    for name, result in results.items():
        if name not in rows:
            cells.append([result["title"], result["problem"], *[""] * (len(header) - 2)])
            continue
        row = rows[name]
        shared = [number(row["dice_shared"], 3)] if more else []
        line = [result["title"], number(row["dice"], 3), *shared, number(row["dice_least"], 3)]
        line += [number(row["folding_percent"], 3), number(row["seconds"], 1), number(row["processor_seconds"], 1)]
        line += [number(row["ratio"], 2), number(row["gigabytes"], 2)]
        for key in ("inverse_mm", "swap_mm"):
            line.append("not found" if lost(result["cases"], key) else number(row[key], 2))
        cells.append(line)
    return cells


def number(value: float | None, digits: int) -> str:
    """A figure as text; nothing where a tool does not give it."""
    return "" if value is None else f"{value:.{digits}f}"


def as_text(cells: list[Cells]) -> str:
    """Columns of equal width; what a missing tool says runs on to the right."""
    full = [row for row in cells if any(row[2:])]
    widths = [max(len(row[i]) for row in full) for i in range(len(cells[0]))]
    widths[0] = max(len(row[0]) for row in cells)
    lines = []
    for row in cells:
        rest = (
            [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)] if any(row[2:]) else [row[1]]
        )
        lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
    return "\n".join(lines)


def as_markdown(cells: list[Cells]) -> str:
    head, *body = cells
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def notes(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the columns mean, what the seconds of every tool hold, and when and how busy it was."""
    good = [result for result in results.values() if "cases" in result]
    timed = [result for result in good if "settings" in result]
    registrations = max((len(result["cases"]) for result in good), default=0)
    labels = max((case["labels"] for result in good for case in result["cases"]), default=0)
    said = [
        f"Means over {registrations} registrations, fixed and moving taking turns; Dice over {labels} labels, "
        "warped by nearest voxel; least is the lowest mean of one registration.",
        "folding: share of all voxels of the fixed grid where the Jacobian determinant is not positive.",
        "seconds: the registration alone, without imports, reading and writing; processor s sums over threads, and "
        "other work on the machine disturbs it less; peak GB is that of the whole process.",
        "inverse: mean distance from where one started after the transform and the tool's own inverse; swap: after the "
        "transform and that of the swapped pair.",
    ]
    if timed:
        starts = sorted(case["started"] for result in timed for case in result["cases"])
        loads = sorted(case["load"] for result in timed for case in result["cases"])
        threads = {result["threads"] for result in timed}
        said.append(
            f"{' or '.join(map(str, sorted(threads)))} threads; measured {starts[0]} to {starts[-1]} UTC, while the "
            f"load of the machine was {loads[0]:.1f} to {loads[-1]:.1f} before each registration (idle is 0)."
        )
    said += [f"{result['title']} ({result['version']}): {result['settings']}." for result in timed]
    return said
