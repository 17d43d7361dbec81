"""Results that do not depend on the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run a block of small linear algebra by one thread of the CPU.

    Factorisations round differently on two, and an optimiser carries a difference in the last digit on until it shows.
    Element-wise work does not, and for products there is :mod:`registration.compiled.products`.
    """
    many = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(many)
