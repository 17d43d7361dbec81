"""Random numbers: their state as values that a checkpoint can hold, and a source for each of several processes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def own_generator() -> torch.Generator:
    """A new source of random numbers on the CPU, seeded by torch's own, and by the process if there are several.

    The processes of a training all begin with one seed and draw equally often: without this they would draw the same.
    """
    seed = int(torch.randint(2**62, ()))
    group = torch.distributed
    rank = group.get_rank() if group.is_available() and group.is_initialized() else 0
    return torch.Generator().manual_seed((seed + rank * 0x9E3779B97F4A7C15) % 2**63)


def random_state() -> dict[str, Any]:
    """States of Python, numpy and torch, on the CPU and on CUDA."""
    kind, keys, place, has_gauss, gauss = np.random.get_state()
    version, internal, normal = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(place),
            int(has_gauss),
            float(gauss),
        ],
        "python": [version, list(internal), normal],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Go on drawing where :func:`random_state` was taken."""
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    kind, keys, place, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), place, has_gauss, gauss))
    version, internal, normal = state["python"]
    random.setstate((version, tuple(internal), normal))
