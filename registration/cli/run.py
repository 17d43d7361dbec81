"""One registration from files to files: what ``register`` and ``demo`` share."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ..errors import InputError
from ..evaluation.verdict import Verdict, judge
from ..io.files import sha256
from ..io.images import Loaded
from ..io.inverse_file import write_inverse
from ..io.links import Grids, Link, named, read_links, roles
from ..io.provenance import FILE as ORIGIN
from ..io.provenance import finite, now, provenance, versions, write_provenance
from ..io.transforms import write_transform
from ..io.widened import as_written
from ..pairwise.observe import Noted, Observer
from ..pairwise.terms import Term
from ..transforms.base import Transform
from .advice import Ran, advised
from .also import load_also, write_also
from .arguments import given
from .case import Case, Inputs, load_case
from .contrasts import result_of_contrast
from .guiding import guiding
from .interpolations import SAMPLERS, label_interpolation
from .pictures import Found, write_pictures, write_text
from .progress import Watcher
from .scores import headline
from .settings import build
from .usable import check_network, device_of, seed_of

OUTPUTS = (
    "warped.nii.gz", "warped_labels.nii.gz", "transform.h5", "transform_inverse.h5", "metrics.json", "overview.png",
    "config.yaml", ORIGIN,
)  # fmt: skip
INITIAL_KEPT = 3  # the exit status


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Parameters
    ----------
    transform
        What the files hold, fixed RAS mm -> moving RAS mm.
    figures
        Those of metrics.json.
    headline
        A few of them as text.
    verdict
        On the result; where it is worse than the initial alignment, the files hold the initial one.
    """

    transform: Transform
    figures: dict[str, Any]
    headline: dict[str, str]
    verdict: Verdict

    def report(self, quiet: bool) -> int:
        """Tell a person what was found, unless ``quiet``; the exit status: 3 if the initial alignment was kept."""
        if not quiet:
            for name, text in self.headline.items():
                print(f"{name:<10} {text}")
            print(f"{'verdict':<10} {self.verdict.status}: {self.verdict.text}")
            if advice := self.figures["verdict"]["advice"]:
                print(f"{'try':<10} {'; '.join(advice)}")
        if not self.verdict.worse:
            return 0
        print(f"registration: {self.verdict.worse}: the initial alignment is kept", file=sys.stderr)
        return INITIAL_KEPT


def run_registration(
    inputs: Inputs, settings: DictConfig, folder: Path, watcher: Watcher, initial: Sequence[Link]
) -> Outcome:
    """Read, register, judge and write into ``folder``, which exists and is empty.

    Parameters
    ----------
    settings
        The composed configuration: ``pipeline`` is what registers, ``seed`` and ``device`` how.
    initial
        Transform files to start from, in place of the configured start; see :func:`~registration.io.links.read_links`.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    clock, began = _Clock(), now()
    ready = prepared(inputs, settings, initial)
    for text in ready.notices:
        watcher.note(text)
    clock.lap("read")
    heard = Noted(watcher)
    result = _registered(ready, heard)
    watcher.close()
    clock.lap("register")
    # What is judged, drawn and warped is what the file will hold.
    fixed = ready.case.fixed.image.space
    found, verdict = _judged(ready.case, result.initial, as_written(result.transform, fixed))
    clock.lap("judge")
    origin = _origin(inputs, settings, initial)
    _write_found(ready.case, found, verdict, folder, origin)
    said = write_also(ready.also, found.seen, ready.case.fixed, folder)
    for text in said:
        watcher.note(text)
    clock.lap("write")
    masked = inputs.fixed_mask is not None or inputs.moving_mask is not None
    ran = Ran.of([stage.name for stage in result.stages], settings, from_file=bool(initial), masked=masked)
    figures = _metrics(ready, found, advised(verdict, ran), settings)
    figures["stages"] = [asdict(stage) for stage in result.stages]
    figures |= {"seconds": clock.seconds, "notices": [*ready.notices, *heard.notes, *said], **origin}
    write_text(folder / "metrics.json", json.dumps(finite(figures), indent=2, allow_nan=False, default=str) + "\n")
    told = OmegaConf.to_yaml(OmegaConf.create({"inputs": inputs.described()})) + OmegaConf.to_yaml(settings)
    write_text(folder / "config.yaml", told)
    write_provenance(folder / ORIGIN, provenance(given.get(), began, origin))
    return Outcome(found.transform, figures, headline(figures), verdict)


def _registered(ready: Ready, observer: Observer) -> Any:
    """What the pipeline finds; a value that it refuses is bad input."""
    torch.manual_seed(ready.seed)
    images = [image.to(ready.device) for image in ready.case.aligned]
    guides = {"terms": ready.terms} if ready.terms else {}
    try:
        result = ready.pipeline(*images, ready.start, observer, **guides)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    return result


def _write_found(case: Case, found: Found, verdict: Verdict, folder: Path, origin: dict[str, Any]) -> None:
    """Write transforms and pictures; the figures learn how far the sampled field is from the transform."""
    grids = case.fixed.image.space, case.moving.image.space
    with ThreadPoolExecutor(2) as threads:  # packing files leaves the processor that draws alone
        forward = threads.submit(write_transform, folder / "transform.h5", found.transform, *grids, provenance=origin)
        backward = threads.submit(write_inverse, folder / "transform_inverse.h5", found.transform, *grids)
        write_pictures(case, found, verdict, folder)
        found.figures["transform_error_mm"] = forward.result()
        backward.result()


@dataclass(frozen=True)
class Ready:
    """A registration that can begin: what was read, the pipeline, and what the user should know."""

    case: Case
    pipeline: Any
    start: Transform | None
    device: torch.device
    seed: int
    notices: tuple[str, ...]
    terms: tuple[Term, ...] = ()
    also: tuple[Loaded, ...] = ()


def prepared(inputs: Inputs, settings: DictConfig, initial: Sequence[Link]) -> Ready:
    """Read and check everything that :func:`run_registration` is given.

    Raises
    ------
    InputError
        If anything cannot be used.
    """
    device, seed = device_of(str(settings.device)), seed_of(settings)
    check_network(settings)
    case = load_case(inputs, header=not initial and OmegaConf.select(settings, "start") == "header")
    grids = case.fixed.image.space, case.moving.image.space
    # Other spacings than those of the files are not what a matrix of FSL counts in.
    start, notices = _initial(initial, grids if inputs.spacing is None else (None, None))
    case = replace(case, label_sampler=SAMPLERS[label_interpolation(settings)])
    if start is not None and start.ndim != case.fixed.image.ndim:
        raise InputError(named(initial), f"is a {start.ndim}-D transform, the images have {case.fixed.image.ndim} axes")
    contrasts = [result_of_contrast(number) for number in range(2, 2 + len(case.contrasts))]
    also = load_also(inputs.also, case.fixed.image.ndim, inputs.spacing, contrasts)
    terms, guides = guiding(case, settings)
    said = (*notices, *case.notices, *(text for each in also for text in each.notices), *guides)
    return Ready(case, build(settings.pipeline), start, device, seed, said, terms, also)


def _judged(case: Case, initial: Transform, transform: Transform) -> tuple[Found, Verdict]:
    """The result with its figures, or the initial alignment where that was better; and the verdict on the result."""
    found = Found.of(case, transform)
    verdict = judge(*case.aligned, initial, transform, found.figures["folding_percent"])
    return (Found.of(case, initial), verdict) if verdict.worse else (found, verdict)


def _metrics(ready: Ready, found: Found, verdict: dict[str, Any], settings: DictConfig) -> dict[str, Any]:
    """What metrics.json says of a result, and how its labels were warped."""
    kept = "initial" if verdict["worse_than_initial"] else "result"
    told = {"verdict": {**verdict, "kept": kept}, **found.figures}
    if ready.case.moving_labels is not None:
        told["label_interpolation"] = label_interpolation(settings)
    return told


class _Clock:
    """Seconds of the parts of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now


def _initial(links: Sequence[Link], grids: Grids) -> tuple[Transform | None, Sequence[str]]:
    if not links:
        return None, ()
    transform, info = read_links(links, grids)
    return transform, info.notices


def _origin(inputs: Inputs, settings: DictConfig, initial: Sequence[Link]) -> dict[str, Any]:
    """Where a result comes from: enough to make it again."""
    start = roles("initial", initial)
    return {
        "seed": int(settings.seed),
        "device": str(settings.device),
        "inputs": inputs.described() | {name: str(link) for name, link in start.items()},
        "sha256": inputs.hashes() | {name: sha256(link.file) for name, link in start.items()},
        "versions": versions(),
        "settings": OmegaConf.to_container(settings),
    }
