"""A running mean of weights, which validates better than the weights of any single step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of the parameters of a module (Polyak and Juditsky 1992).

    Early steps are forgotten faster, so that the beginning does not linger: the decay of step t is at most t / (t + 9).

    Parameters
    ----------
    module
        What is averaged.
    decay
        Share of the mean that a step keeps; 0 gives the present weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the mean weights is 0 or more and below 1, got {decay}")
        self.module, self.decay, self.steps = module, float(decay), 0
        self.mean = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present weights."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9))
        for name, parameter in self.module.named_parameters():
            self.mean[name].lerp_(parameter, 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the mean weights inside, and its own again afterwards."""
        with torch.no_grad():
            own = {name: p.detach().clone() for name, p in self.module.named_parameters()}
        try:
            self._put(self.mean)
            yield
        finally:
            self._put(own)

    def state_dict(self) -> dict[str, Tensor | int]:
        """The mean weights and how many steps they have seen."""
        return {"steps": self.steps, **{f"mean.{name}": value for name, value in self.mean.items()}}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Take up a saved mean."""
        self.steps = int(state["steps"])
        for name, value in self.mean.items():
            saved = state[f"mean.{name}"]
            assert isinstance(saved, Tensor)
            value.copy_(saved)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.module.named_parameters():
            parameter.copy_(values[name])
