"""Losses on batches: cut into pieces as a device needs them, in any layout and precision, values stay what they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registration import compiled
from registration.losses import (
    LocalNormalisedCrossCorrelation,
    MeanSquaredError,
    MutualInformation,
    NormalisedCrossCorrelation,
    NormalisedGradientFields,
    SelfSimilarityContext,
    Similarity,
    WideLocalCorrelation,
    _contexts,
    _windows,
    lncc,
    mi,
)

PIECEWISE = [
    LocalNormalisedCrossCorrelation(1, 1e-3),
    MutualInformation(10),
    MutualInformation(10, normalised=True, tail=0),
    SelfSimilarityContext(1, 1),
    SelfSimilarityContext(1, 2, sigma=0.4, absolute=True),
]
EVERY = [
    *PIECEWISE,
    MeanSquaredError(),
    NormalisedCrossCorrelation(),
    NormalisedGradientFields(),
    WideLocalCorrelation(0.6),
]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pair(dtype: torch.dtype, shape: tuple[int, ...] = (3, 2, 11, 6, 7)) -> tuple[Tensor, Tensor]:
    fixed = noise(*shape, dtype=dtype)
    return 0.6 * fixed + 0.4 * noise(*shape, seed=1, dtype=dtype), fixed


def valued(loss: Similarity, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> list[Tensor]:
    """The losses and their derivatives, alone and bound."""
    found = []
    for bind in (False, True):
        for own in (fixed, fixed[:1]):
            x = warped.clone().requires_grad_()
            kept = None if mask is None else mask[: len(own)]
            value = loss.bind(own, kept)(x, mask) if bind else loss(x, own, mask)
            found += [value.detach(), torch.autograd.grad(value.sum(), x)[0]]
    return found


@pytest.mark.parametrize("loss", PIECEWISE, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("masks", [0, 1, 3])
def test_batches_are_cut_where_nobody_sees_it(loss: Similarity, masks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    warped, fixed = pair(torch.float64)
    mask = noise(masks, 1, *warped.shape[2:], seed=2) * (noise(masks, 1, *warped.shape[2:], seed=3) > 0.4)
    expected = valued(loss, warped, fixed, mask if masks else None)
    for entries in (500, 1000, 1 << 24):  # an item without its channels, one with them, all
        for module in (_contexts, _windows, mi):
            monkeypatch.setattr(module, "at_once", lambda *_, n=entries: n)
        for one, other in zip(valued(loss, warped, fixed, mask if masks else None), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_images_of_16_bits_are_compared_as_float32(loss: Similarity, dtype: torch.dtype) -> None:
    warped, fixed = pair(dtype, (2, 1, 40, 30))
    mask = noise(2, 1, 40, 30, seed=2) > 0.2
    for bound in (False, True):
        x, y = warped.clone().requires_grad_(), warped.float().requires_grad_()
        found = loss.bind(fixed, mask)(x) if bound else loss(x, fixed, mask)
        expected = loss.bind(fixed.float(), mask)(y) if bound else loss(y, fixed.float(), mask)
        assert found.dtype == torch.float32 and torch.equal(found, expected)
        (slope,), (other,) = torch.autograd.grad(found.sum(), x), torch.autograd.grad(expected.sum(), y)
        assert slope.dtype == dtype and torch.equal(slope, other.to(dtype))


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_layout_of_memory_does_not_matter(loss: Similarity, dtype: torch.dtype) -> None:
    warped, fixed = pair(dtype, (2, 3, 20, 18))
    mask = noise(2, 1, 20, 18, seed=2) > 0.2
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x, y = (t.clone(memory_format=layout).requires_grad_() for t in (warped, fixed))
        value = loss(x, y, mask.transpose(2, 3).contiguous().transpose(2, 3))
        slopes = torch.autograd.grad(value.sum(), (x, y), allow_unused=True)
        results.append([value.detach(), *(slope for slope in slopes if slope is not None)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(not compiled.available(), reason="numba is not installed")
def test_what_compiled_loops_do_not_read_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    true = lncc.statistics
    monkeypatch.setattr(lncc, "statistics", lambda *given: made.append(given) or true(*given))
    warped, fixed = pair(torch.float32, (1, 1, 12, 11))
    loss = LocalNormalisedCrossCorrelation()
    bound = loss.bind(fixed)
    torch.testing.assert_close(bound(warped), loss(warped, fixed))
    assert not made
    bound = loss.bind(fixed.double())
    torch.testing.assert_close(bound(warped.double()), loss(warped.double(), fixed.double()))
    bound(warped.double())
    assert len(made) == 1
    torch.testing.assert_close(bound(warped), loss(warped, fixed))  # of another dtype than what is kept


def test_a_mask_that_the_sample_of_voxels_misses_has_a_range_still(monkeypatch: pytest.MonkeyPatch) -> None:
    from registration.losses import _ranges

    warped, fixed = pair(torch.float64, (2, 2, 20, 18))
    mask = torch.zeros(2, 1, 20, 18)
    mask.flatten(2)[..., 5::9] = 1
    expected = MutualInformation(10)(warped, fixed, mask)
    monkeypatch.setattr(_ranges, "_SAMPLES", 40)  # every ninth voxel, none of these
    torch.testing.assert_close(MutualInformation(10)(warped, fixed, mask), expected)
