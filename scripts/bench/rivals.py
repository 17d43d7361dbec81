"""Ours and other programs on the same pairs, one after the other, judged by one piece of code.

python scripts/bench/rivals.py [DATA] [--pairs brain|brain-2mm|hippocampus] [--count 5] [--only NAMES] [--threads 2]
                               [--output FOLDER] [--again] [--markdown | --json]

Every registration runs in a fresh process, so that seconds and peak memory are that tool's alone, on the same files,
the same number of threads and the same processors, and each pair is registered in both directions. The results of a
tool are kept in FOLDER as soon as it is done: a later call measures only what is missing, what failed, or what has
changed since, and prints the table of all. --only takes the names of tools, separated by commas; "ours" stands for
all of ours, and "greedy" or "sitk" for theirs.

DATA is the folder of real images, ../shared/data without. ``pip install '.[bench]'`` brings the rivals; those that are
not installed are named in the table. docs/benchmarks.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from checkout import ROOT
from rival_pairs import SETS
from rival_scores import Pair, quality, read_chain, there_and_back
from rival_table import as_markdown, as_text, notes, summary, table
from rival_tools import Tool, tools

import registration
from registration.filters import downsample
from registration.io.provenance import finite

_OURS = ("fast", "default", "accurate", "tps")
_THREADS = [f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")]
_THREADS += ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"]


class Failed(Exception):
    """A tool ended without a result; the text says how."""


def chosen(words: str, known: Sequence[str], usual: Sequence[str]) -> list[str]:
    """The tools that ``--only`` names, in the order of the table.

    Raises
    ------
    ValueError
        If a word stands for none.
    """
    if not words:
        return list(usual)
    picked: set[str] = set()
    for word in words.split(","):
        family = _OURS if word == "ours" else [name for name in known if word in (name, name.partition("-")[0])]
        picked |= {word} if word in known else set(family)
        if not family:
            raise ValueError(f"--only {word}: known are ours, greedy, sitk, {', '.join(known)}")
    return [name for name in known if name in picked]


def version_of(tool: Tool) -> str | None:
    """What is installed; for ours a digest of the code and the settings as well. None where there is nothing."""
    if tool.package == "registration":
        files = sorted([*(ROOT / "registration").rglob("*.py"), *(ROOT / "configs").rglob("*.yaml")])
        return f"{registration.__version__}, {sha256(b''.join(map(Path.read_bytes, files))).hexdigest()[:8]}"
    try:
        return metadata.version(tool.package)
    except metadata.PackageNotFoundError:
        return None


def run(name: str, pair: Pair, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One registration in a process of its own; its ``run.json``, from an earlier call if that was cut short.

    Raises
    ------
    Failed
        If the tool ended badly or took longer than ``--limit``.
    """
    done = folder / "run.json"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        words = [name, pair.fixed.resolve(), pair.moving.resolve(), folder.resolve(), options.threads]
        command = [sys.executable, str(Path(__file__).with_name("rival_tools.py")), *map(str, words)]
        environment = os.environ | {key: str(options.threads) for key in _THREADS}
        with (folder / "log.txt").open("w") as log:
            try:
                status = subprocess.run(
                    command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder, check=False,
                    timeout=options.limit,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                raise Failed(f"failed: more than {options.limit:g} s") from None
        if status:
            raise Failed(f"failed: {_reason(status, folder / 'log.txt')}")
    return dict(json.loads(done.read_text()))


def _reason(status: int, log: Path) -> str:
    """How a process ended, in a few words."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}, see {log}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1][:120]}, see {log}" if lines else f"status {status}"


def both_ways(name: str, pair: Pair, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of a pair and of the same pair swapped."""
    pairs = [pair, pair.swapped()]
    records = [run(name, each, folder / str(i), options) for i, each in enumerate(pairs)]
    found = [read_chain(folder / str(i), record["forward"]) for i, record in enumerate(records)]
    cases = []
    for i, (each, record) in enumerate(zip(pairs, records, strict=True)):
        figures = {"pair": each.name} | {key: value for key, value in record.items() if not key.endswith("ward")}
        figures |= quality(each, found[i]) | {"swap_mm": there_and_back(each, found[i], found[1 - i])}
        if record["backward"]:
            back = read_chain(folder / str(i), record["backward"])
            figures["inverse_mm"] = there_and_back(each, found[i], back)
        cases.append(figures)
    return cases


def measure(name: str, tool: Tool, pairs: list[Pair], options: argparse.Namespace) -> dict[str, Any]:
    """The result of a tool over all pairs: kept from an earlier call where nothing has changed, or measured now."""
    version = version_of(tool)
    if version is None:
        return {"title": tool.title, "problem": f"not installed (pip install {tool.package})"}
    key = {"title": tool.title, "settings": tool.settings, "version": version, "threads": options.threads}
    key["pairs"] = [pair.name for pair in pairs]
    folder = options.output / options.pairs / name
    kept = folder.with_suffix(".json")
    if kept.is_file() and not options.again:
        result = finite(json.loads(kept.read_text()))  # earlier files hold NaN
        if all(result.get(word) == value for word, value in key.items()):
            return dict(result)
    if options.again or ((folder / "version").exists() and (folder / "version").read_text() != version):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "version").write_text(version)
    try:
        if tool.package == "registration":
            warm(name, pairs[0], folder / "warm", options)
        cases = []
        for pair in pairs:
            say(f"{tool.title}: {pair.name}")
            cases += both_ways(name, pair, folder / pair.name.replace(" ", "-"), options)
    except Failed as problem:
        return {"title": tool.title, "problem": str(problem)}
    result = key | {"cases": cases}
    partial = kept.with_suffix(".part")
    partial.write_text(as_json(result))
    partial.replace(kept)
    if not options.keep:
        shutil.rmtree(folder)
    return result


def as_json(told: dict[str, Any]) -> str:
    """JSON of plain values, null for what is no number: other programs cannot read NaN."""
    return json.dumps(finite(told), indent=1, allow_nan=False)


def warm(name: str, pair: Pair, folder: Path, options: argparse.Namespace) -> None:
    """Our loops are compiled when first used on a machine, and kept: a small pair once, so that nobody waits later."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for role in ("fixed", "moving"):
        image = registration.read_image(getattr(pair, role))
        files.append(folder / f"{role}.nii.gz")
        registration.write_image(files[-1], downsample(image, [max(8, n // 4) for n in image.space.shape]))
    run(name, Pair("small", *files, *files), folder / "run", options)


def unregistered(pairs: list[Pair]) -> dict[str, Any]:
    """As the headers place the images."""
    both = [each for pair in pairs for each in (pair, pair.swapped())]
    return {"title": "unregistered", "cases": [quality(each, registration.Linear.identity(3)) for each in both]}


def say(text: str) -> None:
    """To the other stream, so that the table can be kept in a file."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--pairs", choices=SETS, default="brain")
    parser.add_argument("--count", type=int, default=5, help="how many pairs of hippocampus crops")
    parser.add_argument("--only", default="", help="tools, separated by commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("outputs/rivals"), help="where results are kept")
    parser.add_argument("--limit", type=float, default=7200, help="seconds that one registration may take")
    parser.add_argument("--again", action="store_true", help="measure the chosen tools again")
    parser.add_argument("--keep", action="store_true", help="keep the transforms as well")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    form.add_argument("--json", action="store_true", help="print all figures as JSON")
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"no real images at {options.data}: nothing to measure; give their folder as the argument")
    return options


def main() -> None:
    options = arguments()
    known = tools()
    try:
        names = chosen(options.only, list(known), [name for name, tool in known.items() if tool.usual])
    except ValueError as error:
        raise SystemExit(str(error)) from None
    options.output.mkdir(parents=True, exist_ok=True)
    pairs = SETS[options.pairs](options.data, options.output / options.pairs / "images", options.count)
    results = {"unregistered": unregistered(pairs)}
    results |= {name: measure(name, known[name], pairs, options) for name in names}
    if options.json:
        ants = results.get("ants", {})
        yardstick = summary(ants, None)["seconds"] if "cases" in ants else None
        good = {name: summary(result, yardstick) for name, result in results.items() if "cases" in result}
        print(as_json({"pairs": options.pairs, "summary": good, "results": results}))
        return
    cells = table(results)
    print(as_markdown(cells) if options.markdown else as_text(cells))
    print("\n" + "\n".join(f"- {line}" if options.markdown else line for line in notes(results)))


if __name__ == "__main__":
    main()
