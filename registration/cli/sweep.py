"""Many trainings at once by Hydra's own main, with its launchers (joblib, submitit) and sweepers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from .settings import config_dir


def job(settings: DictConfig) -> float:
    """One run of a sweep, in the folder that Hydra gives it; its merit, for sweepers that optimise."""
    from ..training.validation import merit
    from .progress import Lines
    from .training import figures_of, run_training

    folder = Path(HydraConfig.get().runtime.output_dir)
    lines = Lines(sys.stderr)
    run_training(settings, folder, lines)
    lines.close()
    return merit(figures_of(folder))


def sweep(words: Sequence[str]) -> None:
    """Run every combination of the values in ``words``, such as ``optimiser.lr=1e-3,1e-4``."""
    given = sys.argv
    sys.argv = [given[0], *words, "--multirun"]
    try:
        hydra.main(config_path=str(config_dir()), config_name="train", version_base="1.3")(job)()
    finally:
        sys.argv = given
