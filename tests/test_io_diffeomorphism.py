"""How a diffeomorphism is written: once, rounded a little, with its inverse, also for other programs."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from registration.io.inverse_file import write_inverse
from registration.io.transforms import read_transform, write_transform
from registration.io.widened import as_written
from registration.space import Space
from registration.transforms.base import Transform
from registration.transforms.diffeomorphism import Diffeomorphism
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear

SHAPES = [(30, 26), (24, 20, 18)]


def waves(space: Space, sign: float) -> DisplacementField:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.randn(1, space.ndim, *(4,) * space.ndim, generator=generator)
    mode = "bilinear" if space.ndim == 2 else "trilinear"
    values = torch.nn.functional.interpolate(coarse, size=list(space.shape), mode=mode, align_corners=True)[0]
    return DisplacementField(sign * values, space)


def example(shape: tuple[int, ...]) -> tuple[Transform, Space, Space]:
    """A linear map after a diffeomorphism on a part of an oblique fixed grid."""
    d = len(shape)
    turn = torch.eye(d + 1, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[0.96, -0.28], [0.28, 0.96]])
    fixed = Space(shape, turn @ Space.regular(shape, 1.7).affine)
    part = fixed.cropped([3] * d, [n - 7 for n in shape])
    outer = Linear.translation(torch.tensor([4.0, -2.0, 1.0][:d], dtype=torch.float64)) @ Linear(turn)
    field = Diffeomorphism(waves(part, 1.0), waves(part.resized([n // 2 for n in part.shape]), -1.0))
    return outer @ field, fixed, Space.regular(shape, 2.0)


def points_in(space: Space) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    index = torch.rand(300, space.ndim, dtype=torch.float64, generator=generator)
    index = index * (torch.tensor(space.shape) - 1)
    return index @ space.affine[:-1, :-1].T + space.affine[:-1, -1]


def by_itk(transform: sitk.Transform, points: torch.Tensor) -> torch.Tensor:
    sign = torch.tensor([-1.0, -1.0, 1.0][: points.shape[1]], dtype=torch.float64)
    found = [transform.TransformPoint(point) for point in (points * sign).tolist()]
    return torch.tensor(found, dtype=torch.float64) * sign


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_read_is_what_was_written(shape: tuple[int, ...], tmp_path: Path) -> None:
    transform, fixed, moving = example(shape)
    error = write_transform(tmp_path / "t.h5", transform, fixed, moving)
    found, info = read_transform(tmp_path / "t.h5")
    points = torch.cat([points_in(fixed), points_in(fixed) * 3])  # also far outside
    away = (found(points) - transform(points)).norm(dim=1)
    assert info.exact and 0 < float(away.max()) < 0.018 * 1.7 and error["max_mm"] < 0.018 * 1.7
    assert info.field_error == error and error["between_max_mm"] < 0.018 * 1.7
    torch.testing.assert_close(found(points), as_written(transform, fixed)(points))
    back = (found.inverse()(points) - transform.inverse()(points)).norm(dim=1)
    assert float(back.max()) < 0.018 * 4.0


@pytest.mark.parametrize("shape", SHAPES)
def test_other_programs_read_the_same(shape: tuple[int, ...], tmp_path: Path) -> None:
    transform, fixed, moving = example(shape)
    write_transform(tmp_path / "t.h5", transform, fixed, moving)
    assert write_inverse(tmp_path / "i.h5", transform, fixed, moving)
    found = read_transform(tmp_path / "t.h5")[0]
    points = points_in(fixed)
    torch.testing.assert_close(by_itk(sitk.ReadTransform(str(tmp_path / "t.h5")), points), found(points))
    there = Linear(found.parts[0].matrix)(points)  # type: ignore[attr-defined]
    inverse = sitk.ReadTransform(str(tmp_path / "i.h5"))
    torch.testing.assert_close(by_itk(inverse, there), found.inverse()(there))
    torch.testing.assert_close(read_transform(tmp_path / "i.h5")[0](there), found.inverse()(there), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_inverse_of_a_result_that_was_turned_round(shape: tuple[int, ...], tmp_path: Path) -> None:
    straight, fixed, moving = example(shape)
    turned = straight.inverse()  # from the moving grid to the fixed one: the linear map first
    error = write_transform(tmp_path / "t.h5", turned, moving, fixed)
    assert write_inverse(tmp_path / "i.h5", turned, moving, fixed)
    pairs = [
        ("t.h5", as_written(turned, moving), points_in(moving)),
        ("i.h5", as_written(straight, fixed), points_in(fixed)),
    ]
    for name, expected, points in pairs:
        torch.testing.assert_close(by_itk(sitk.ReadTransform(str(tmp_path / name)), points), expected(points))
        found = read_transform(tmp_path / name)[0](points)
        torch.testing.assert_close(found, expected(points), rtol=0, atol=1e-4)
    away = (turned(points_in(moving)) - pairs[0][1](points_in(moving))).norm(dim=1)
    assert 0 < float(away.max()) < 0.018 * 4 and 0 < error["max_mm"] < 0.018 * 4


@pytest.mark.parametrize("shape", SHAPES)
def test_a_field_between_two_linear_maps_reaches_other_programs(shape: tuple[int, ...], tmp_path: Path) -> None:
    straight, fixed, moving = example(shape)
    turn = torch.eye(len(shape) + 1, dtype=torch.float64)
    turn[0, 1] = 0.1
    both = straight @ Linear(turn)
    write_transform(tmp_path / "t.h5", both, fixed, moving)
    points = points_in(fixed)
    torch.testing.assert_close(
        by_itk(sitk.ReadTransform(str(tmp_path / "t.h5")), points), as_written(both, fixed)(points)
    )


def test_only_a_diffeomorphism_needs_its_inverse_beside_it(tmp_path: Path) -> None:
    grid = Space.regular((4, 4, 4))
    assert not write_inverse(tmp_path / "i.h5", Linear.identity(3), grid, grid)
    assert not list(tmp_path.iterdir())


def test_the_forward_field_is_stored_once(tmp_path: Path) -> None:
    transform, fixed, moving = example((40, 40, 40))
    write_transform(tmp_path / "t.h5", transform, fixed, moving)
    large: list[str] = []

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.size > 5000:
            large.append(name)

    with h5py.File(tmp_path / "t.h5") as store:
        store.visititems(note)
    assert sorted(large) == ["TransformGroup/2/TransformParameters", "registration/chain/1/1/displacement"]


def test_a_changed_field_is_noticed(tmp_path: Path) -> None:
    from registration.errors import InputError

    transform, fixed, moving = example(SHAPES[1])
    write_transform(tmp_path / "t.h5", transform, fixed, moving)
    with h5py.File(tmp_path / "t.h5", "a") as store:
        data = store["TransformGroup/2/TransformParameters"]
        data[7] = np.float32(1.5)
    with pytest.raises(InputError, match="checksum"):
        read_transform(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "a") as store:
        del store["TransformGroup"]
    with pytest.raises(InputError, match="no field at"):
        read_transform(tmp_path / "t.h5")


@pytest.mark.parametrize("shape", [(80, 70), (24, 20, 18)])
def test_files_of_earlier_versions_are_read(shape: tuple[int, ...], tmp_path: Path) -> None:
    from registration.io.packing import get_array

    def packed(store: h5py.File) -> h5py.Dataset:
        return store["registration/chain/1/1/displacement"]

    straight, fixed, moving = example(shape)
    both = [part for part in straight.parts]  # type: ignore[attr-defined]
    same = Diffeomorphism(both[1].forward, waves(both[1].forward.space, -1.0))  # fields of equal size, both packed
    write_transform(tmp_path / "t.h5", both[0] @ same, fixed, moving)
    expected = read_transform(tmp_path / "t.h5")[0].inverse()(points_in(moving))
    with h5py.File(tmp_path / "t.h5", "a") as store:
        assert store["registration"].attrs["format"] == 3 and "grain" in packed(store).attrs
        store["registration"].attrs["format"] = 2  # some of format 2 hold differences, others the numbers themselves
    torch.testing.assert_close(read_transform(tmp_path / "t.h5")[0].inverse()(points_in(moving)), expected)
    with h5py.File(tmp_path / "t.h5", "a") as store:
        data = packed(store)
        values = get_array(tmp_path / "t.h5", store["registration/chain/1/1"], "displacement")
        data[...] = np.rint(values / data.attrs["grain"]).astype(data.dtype).ravel()
    torch.testing.assert_close(read_transform(tmp_path / "t.h5")[0].inverse()(points_in(moving)), expected)


def test_a_file_without_checksum_says_that_it_is_old(tmp_path: Path) -> None:
    from registration.errors import InputError

    transform, fixed, moving = example(SHAPES[0])
    write_transform(tmp_path / "t.h5", transform, fixed, moving)
    with h5py.File(tmp_path / "t.h5", "a") as store:
        store["registration"].attrs["format"] = 1
        del store["registration"].attrs["digest"]
    with pytest.raises(InputError, match=r"older version.*register again"):
        read_transform(tmp_path / "t.h5")
