"""The same images give the same transform to the bit: again, in a new process, on one thread and on two."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from registration import compiled
from registration.compiled.joint import windowed_information
from registration.compiled.products import product, turned_product
from registration.pairwise import Header, Pipeline, SplineLevel, SplineStage, presets
from registration.phantom import oblique_space, phantom_pair

pytestmark = pytest.mark.skipif(not compiled.available(), reason="numba is not installed")


def run(threads: int) -> str:
    """The default pipeline, its spline on two levels; what the transform says, as a hash."""
    torch.set_num_threads(threads)
    spaces = [oblique_space((36, 32, 28), (4.0, 4.4, 5.0), 20), oblique_space((34, 38, 30), (4.2, 4.0, 5.0), -15)]
    pair = phantom_pair(*spaces, seed=3, deformation=7.0, noise=0.01)
    preset = presets.default()
    stages = preset.diffeomorphic()
    stages[2] = SplineStage("tps", preset.deformable, (SplineLevel(8, 7), SplineLevel(4, 10)))
    found = Pipeline(Header(), stages)(pair.fixed, pair.moving).transform
    points = found(pair.fixed.space.points())
    assert float((points - pair.fixed.space.points()).abs().max()) > 5  # there was something to do
    return hashlib.sha256(points.contiguous().numpy().tobytes()).hexdigest()


def test_spline_and_dense_stage_repeat_to_the_bit() -> None:
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import test_repeatable; print(test_repeatable.run(1))"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    scattered = []
    results = set()
    for threads in (1, 2):
        # What lies where in memory is another thing in every run.
        scattered += [torch.empty(1000 * k + 7 * threads) for k in range(1, 9)]
        results.add(run(threads))
    results.add(other.communicate(timeout=300)[0].strip())
    assert len(results) == 1


def informed() -> str:
    values, terms = windowed_information(torch.rand(4, 5, 6, 16, 16), 1, 100.0, 0.01)
    return f"{values!r} {hashlib.sha256(terms.numpy().tobytes()).hexdigest()}"


def test_the_process_that_compiles_rounds_as_later_ones_do(tmp_path: Path) -> None:
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import torch, test_repeatable; torch.manual_seed(1); "
    command = [sys.executable, "-c", code + "print(test_repeatable.informed())"]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    found = [subprocess.run(command, env=environment, capture_output=True, check=True).stdout for _ in range(2)]
    assert found[0] == found[1] != b"" and any(tmp_path.rglob("information_kernels*"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (70, 130, 3), (33, 17, 5)])
def test_products_equal_those_of_torch(sizes: tuple[int, int, int], dtype: torch.dtype) -> None:
    g, k, v = sizes
    matrix, values = torch.randn(g, k, dtype=dtype), torch.randn(k, v, dtype=dtype, requires_grad=True)
    again = matrix @ values
    upstream = torch.randn_like(again)

    def both(result: Tensor) -> tuple[Tensor, Tensor]:
        (slope,) = torch.autograd.grad((result * upstream).sum(), values)
        return result.detach(), slope

    wanted = both(again)
    turned = both(turned_product(values, matrix).T)
    for found in (both(product(matrix, values)), turned):
        for one, two in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, two, atol=2e-5 if dtype == torch.float32 else 1e-12, rtol=0)
