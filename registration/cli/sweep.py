"""Many trainings at once by Hydra's own main, with its launchers (joblib, submitit) and sweepers."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from ..errors import InputError
from .progress import Watcher
from .settings import compose, config_dir

_FULL = "HYDRA_FULL_ERROR"
_LOGGING = ("hydra/hydra_logging", "hydra/job_logging")
_MANY = 20  # values of one setting that are checked before a sweep


def job(settings: DictConfig) -> float:
    """One run of a sweep, in the folder that Hydra gives it; its merit, for sweepers that optimise."""
    from .progress import Lines

    return _run(settings, Lines(sys.stderr))


def quiet_job(settings: DictConfig) -> float:
    """The same without a word; by a name of its own, as launchers take it to other processes."""
    from .progress import Quiet

    return _run(settings, Quiet())


def _run(settings: DictConfig, watcher: Watcher) -> float:
    from ..training.validation import merit
    from .training import figures_of, run_training

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        run_training(settings, folder, watcher)
    except InputError as error:
        # Told here, as Hydra puts words of its own before an error that it sees.
        print(f"registration: {folder}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    finally:
        watcher.close()
    return merit(figures_of(folder))


def sweep(words: Sequence[str], quiet: bool = False) -> None:
    """Run every combination of the values in ``words``, such as ``optimiser.lr=1e-3,1e-4``.

    Parameters
    ----------
    quiet
        Say nothing but errors; neither does Hydra then, unless ``words`` choose how it logs.

    Raises
    ------
    InputError
        If a key or a value cannot be used, a launcher is not installed, or runs want several processes and none but
        this is started for them; before anything is run.
    """
    _check(words)
    if quiet:
        words = [*(f"{key}=none" for key in _LOGGING if not any(word.startswith(f"{key}=") for word in words)), *words]
    given, full = sys.argv, os.environ.get(_FULL)
    sys.argv = [given[0], *words, "--multirun"]
    os.environ[_FULL] = "1"  # a fault of the program comes to us, to be told as everywhere, not to Hydra's printer
    try:
        run = quiet_job if quiet else job
        hydra.main(config_path=str(config_dir()), config_name="train", version_base="1.3")(run)()
    finally:
        sys.argv = given
        if full is None:
            del os.environ[_FULL]
        else:
            os.environ[_FULL] = full


def _check(words: Sequence[str]) -> None:
    """Compose every value once, where a mistake is told in one line; Hydra's own settings are set apart."""
    values, launcher = list[list[str]](), "basic"
    for word in words:
        key, _, value = word.partition("=")
        if key == "hydra/launcher":
            launcher, name = value, value.split("_")[0]
            parts = ("hydra_plugins", f"hydra_plugins.hydra_{name}_launcher")
            if value != "basic" and not all(find_spec(part) for part in parts):
                raise InputError(word, "this launcher is not installed", f"pip install hydra-{name}-launcher")
        elif not key.startswith(("hydra.", "hydra/")):
            values.append(_values(word))
    first = [value[0] for value in values]
    _try(first, launcher)
    for place, several in enumerate(values):
        for value in several[1:]:
            _try([*first[:place], value, *first[place + 1 :]], launcher)


def _try(words: Sequence[str], launcher: str) -> None:
    """Compose settings, and make of them what needs no data."""
    from ..training.fabric import started
    from .training import parts_of

    trainer = parts_of(compose("train", words)).trainer
    # Fabric starts processes by giving the command of this one again, which is that of the whole sweep.
    if (trainer.devices, trainer.nodes) != (1, 1) and not launcher.startswith("submitit_slurm") and started() == 1:
        raise InputError(
            f"trainer.devices={trainer.devices} trainer.nodes={trainer.nodes}", "a run of a sweep is one process",
            "one device per run, or hydra/launcher=submitit_slurm with hydra.launcher.tasks_per_node=N",
        )  # fmt: skip


def _values(word: str) -> list[str]:
    """A setting for every value of a word that gives several, the first few if they are many."""
    try:
        override = OverridesParser.create().parse_override(word)
        if override.is_sweep_override():
            given = itertools.islice(override.sweep_string_iterator(), _MANY)
            return [f"{override.get_key_element()}={value}" for value in given] or [word]
    except HydraException:
        pass  # told when it is composed
    return [word]
