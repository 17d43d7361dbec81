"""Fields without folds on every grid that reads them."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from registration import compiled
from registration.evaluation.jacobian import folded_cells, simplex_folding_percent
from registration.evaluation.metrics import jacobian_determinants
from registration.filters import gaussian
from registration.image import Image
from registration.io.inverse_file import write_inverse
from registration.io.transforms import read_transform, write_transform
from registration.losses import WideLocalCorrelation
from registration.pairwise import DiffeomorphicStage, FieldLevel, Pair, Silent, Steps
from registration.pairwise import voxelfields as vf
from registration.pairwise.folds import CellFolds, Folds, VoxelFolds
from registration.pairwise.unfold import View, unfold
from registration.phantom import oblique_space
from registration.transforms.linear import Linear

SHAPES = [(14, 15, 16), (1, 20, 18), (12, 1, 16), (12, 13, 1)]


def rough_field(shape: tuple[int, ...], size: float = 0.5) -> torch.Tensor:
    field = torch.randn(3, *shape) * size
    for axis, n in enumerate(shape):
        if n == 1:
            field[axis] = 0
    return field


def tilted(shape: tuple[int, ...], grid: tuple[int, ...], step: float) -> View:
    """A grid turned against the field's where both have voxels, and beginning outside."""
    matrix = torch.eye(3, 4, dtype=torch.float64) * step
    used = [axis for axis in range(3) if shape[axis] > 1]
    matrix[used, 3] = -2.3
    matrix[used[0], used[1]], matrix[used[1], used[0]] = 0.2, -0.2
    for axis in set(range(3)) - set(used):
        matrix[axis, axis] = 1
    return View(matrix, grid)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_compiled_search_equals_torch_and_the_evaluation(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    field = rough_field(shape)
    found = CellFolds()(field)
    with mock.patch.object(compiled, "available", lambda: False):
        assert torch.equal(found, CellFolds()(field)) and len(found)
    used = [axis for axis in range(3) if shape[axis] > 1]
    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij"), dim=-1)
    mapped = (index + field.movedim(0, -1))[..., used].reshape(*[shape[a] for a in used], len(used))
    assert int(folded_cells(mapped).sum()) == len(found)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_compiled_search_for_voxels_equals_torch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    field = rough_field(shape, 0.8)
    found = VoxelFolds()(field)
    with mock.patch.object(compiled, "available", lambda: False):
        assert torch.equal(found, VoxelFolds()(field))
    # Every cell that a folded voxel is a corner of, once.
    cells = torch.zeros([n + 1 if n > 1 else n for n in shape])
    for x, y, z in (vf.determinants(field) < 0).nonzero().tolist():
        cells[x : x + 2, y : y + 2, z : z + 2] = 1
    first = torch.tensor([1 if n > 1 else 0 for n in shape])
    assert torch.equal(found + first, cells.nonzero()) and len(found)


@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(9, 8, 7), (1, 12, 11), (12, 1, 9)]),
    many=st.integers(1, 6),
    border=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_rows_hold_all_that_changes_with_voxels_at_the_border_too(
    seed: int, shape: tuple[int, int, int], many: int, border: bool
) -> None:
    g = torch.Generator().manual_seed(seed)
    grid = tuple(n + 11 if n > 1 else 1 for n in shape)
    view = tilted(shape, grid, (0.6, 1.0, 1.4)[seed % 3])
    places = torch.stack([torch.randint(0, n, (many,), generator=g) for n in shape], dim=1)
    if border:
        axis = next(a for a in (seed % 3, 0, 2) if shape[a] > 1)
        places[0, axis] = (seed % 2) * (shape[axis] - 1)
    field = torch.rand(3, *shape, generator=g)
    before = view.seen(field, None).clone()
    field[:, places[:, 0], places[:, 1], places[:, 2]] += 1
    rows = view.touched(places, shape)
    assert rows is not None
    changed = (View(view.matrix, view.shape).seen(field, None) != before).any(dim=0).float()
    near = F.max_pool3d(changed[None], 3, stride=1, padding=1)[0] if min(shape) > 1 else changed
    x, y, z = near.nonzero().T
    assert (rows[0, x, y] <= z).all() and (z < rows[1, x, y]).all()
    assert torch.equal(view.seen(field, rows, places), View(view.matrix, view.shape).seen(field, None))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_compiled_softening_equals_torch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    field = rough_field(shape)
    mended = unfold(field.clone(), folds=CellFolds())
    with mock.patch.object(compiled, "available", lambda: False):
        assert torch.allclose(mended, unfold(field.clone(), folds=CellFolds()), atol=1e-5)


@pytest.mark.parametrize("folds", [VoxelFolds(), CellFolds()], ids=["voxels", "cells"])
@pytest.mark.parametrize("step", [0.6, 1.3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_view_of_an_unfolded_field_folds(shape: tuple[int, ...], step: float, folds: Folds) -> None:
    torch.manual_seed(1)
    grid = tuple(1 if n == 1 else n + 6 for n in shape)
    views = [View.own(shape), tilted(shape, grid, step)]
    mended = unfold(rough_field(shape), views, folds, settle=lambda v: (64 * v).round() / 64)
    fresh = [View.own(shape), tilted(shape, grid, step)]
    assert [len(folds(view.seen(mended, None))) for view in fresh] == [0, 0]
    assert torch.equal(mended, (64 * mended).round() / 64)


@pytest.mark.parametrize("seed", [1, 5])
def test_thick_slices_do_not_fold_where_the_field_is_smooth_to_its_own_voxels(seed: int) -> None:
    torch.manual_seed(seed)
    field = gaussian(torch.randn(1, 3, 30, 60, 30), [2.0, 2.0, 2.0])[0]
    field *= 1.6 / field.std()
    thick = torch.eye(3, 4, dtype=torch.float64)
    thick[1, 1] = 5
    mended = unfold(field, [View.own(field.shape[1:]), View(thick, (30, 12, 30))])
    assert len(VoxelFolds()(mended)) == len(VoxelFolds()(View(thick, (30, 12, 30)).seen(mended, None))) == 0


def test_unfolding_touches_nothing_far_away() -> None:
    field = torch.zeros(3, 24, 24, 24)
    field[0, 12] = 4.0
    assert bool((vf.determinants(field) <= 0).any())
    mended = unfold(field.clone())
    assert bool((vf.determinants(mended) > 0).all())
    assert torch.equal(mended[:, :3], field[:, :3])


@pytest.mark.parametrize("shape", [(1, 24, 24), (24, 24, 1), (2, 24, 24), (24, 1, 1)])
def test_unfolding_of_a_slice(shape: tuple[int, ...]) -> None:
    field = torch.zeros(3, *shape)
    axis = max(a for a in range(3) if shape[a] > 2)
    field[axis].select(axis, 12).fill_(4.0)
    assert bool((vf.determinants(field) <= 0).any())
    assert bool((vf.determinants(unfold(field)) > 0).all())


@pytest.mark.parametrize("folds", [None, CellFolds()], ids=["voxels", "cells"])
@pytest.mark.parametrize("turned", [False, True], ids=["straight", "turned round"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_what_is_written_does_not_fold_on_the_grids_of_the_images(
    ndim: int, turned: bool, folds: Folds | None, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    # Speckle pulls a field into every fold it can reach; the grids differ in everything.
    spaces = [
        oblique_space((26, 24, 22)[:ndim], (2.0, 2.2, 2.4)[:ndim], 20),
        oblique_space((30, 18, 24)[:ndim], (1.7, 3.0, 2.2)[:ndim], -15, flips=[0]),
    ]
    fixed, moving = (Image(torch.rand(1, 1, *space.shape), space, name="speckle") for space in spaces)
    stage = DiffeomorphicStage(
        "dense", WideLocalCorrelation(), [FieldLevel(1.5, 12, 0.3)], Steps(last=0.5), folds=folds
    )
    start = torch.eye(ndim + 1, dtype=torch.float64)
    start[0, 1] = 0.1
    found, _ = stage(Pair(fixed, moving), Linear(start), Silent())
    if turned:
        found, fixed, moving = found.inverse(), moving, fixed
    write_transform(tmp_path / "t.h5", found, fixed.space, moving.space)
    assert write_inverse(tmp_path / "i.h5", found, fixed.space, moving.space)
    for name, space in (("t.h5", fixed.space), ("i.h5", moving.space)):
        written, _ = read_transform(tmp_path / name)
        determinants = jacobian_determinants(written, space)
        assert float(determinants.min()) > 0.005
        assert float((determinants - 1).abs().max()) > 0.3
        assert folds is None or simplex_folding_percent(written, space) == 0
