"""The exact parametric chain of a transform as records: names and numbers only, so no pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..space import Space
from ..transforms.base import Composite, Transform
from ..transforms.diffeomorphism import Diffeomorphism, grain
from ..transforms.field import DisplacementField
from ..transforms.inverse import NumericalInverse
from ..transforms.lattice_spline import LatticeSpline
from ..transforms.linear import Linear
from ..transforms.tps import ThinPlateSpline


@dataclass
class Record:
    """One transform: its kind, its arrays, and the records it is built from (of a chain: outermost first).

    ``grain`` is what displacements are whole multiples of, 0 if they are any numbers; ``stored_at`` is where in the
    file they are already, as a vector of ITK.
    """

    kind: str
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    parts: list[Record] = field(default_factory=list)
    grain: float = 0.0
    stored_at: str = ""

    def digest(self) -> str:
        """SHA-256 of everything in the record: a changed bit in a matrix gives another transform, not an error."""
        total = hashlib.sha256(self.kind.encode())
        for name, values in sorted(self.arrays.items()):
            total.update(f"{name} {values.dtype.str} {values.shape}".encode())
            total.update(np.ascontiguousarray(values).data)
        for part in self.parts:
            total.update(part.digest().encode())
        return total.hexdigest()


@dataclass(frozen=True)
class Codec:
    """How one class of transforms becomes a record and comes back."""

    kind: str
    encode: Callable[[Any], Record]
    decode: Callable[[Record], Transform]


def encode(transform: Transform) -> Record:
    """The record of a transform; it is detached, on the CPU and without a batch axis.

    Raises
    ------
    TypeError
        If a part of the chain has no codec.
    ValueError
        If a part is a batch of several transforms.
    """
    for kind in type(transform).__mro__:
        if kind in CODECS:
            return CODECS[kind].encode(transform)
    known = ", ".join(c.__name__ for c in CODECS)
    raise TypeError(f"cannot write a {type(transform).__name__}: a transform file holds {known}")


def decode(record: Record) -> Transform:
    """The transform of a record.

    Raises
    ------
    KeyError, ValueError, IndexError
        If the record does not describe a transform.
    """
    for codec in CODECS.values():
        if codec.kind == record.kind:
            return codec.decode(record)
    raise ValueError(f"a transform of unknown kind {record.kind!r}; a newer version may have written it")


def one_linear(file: Path, transform: Transform, refusal: str, ndim: int | None = None) -> Linear:
    """A transform as a linear map, in so many dimensions if ``ndim`` is given, for files that hold nothing else.

    Raises
    ------
    InputError
        If it is of another kind.
    """
    single = decode(encode(transform))
    if not isinstance(single, Linear) or ndim not in (None, single.ndim):
        raise InputError(file, refusal, "write transform.h5 or a Warp.nii.gz")
    return single


def _numbers(tensor: Tensor, axes: int) -> np.ndarray:
    """A tensor of ``axes`` axes as an array; a leading batch axis of one is dropped."""
    if tensor.ndim == axes + 1:
        if tensor.shape[0] != 1:
            raise ValueError(f"a file holds one transform, got a batch of {tensor.shape[0]}: write them one by one")
        tensor = tensor[0]
    return tensor.detach().cpu().numpy()


def _tensor(record: Record, name: str, axes: int) -> Tensor:
    values = record.arrays[name]
    if values.ndim != axes or values.dtype.kind != "f":
        raise ValueError(
            f"{name} of a {record.kind} should be real numbers on {axes} axes, got {values.dtype} {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} of a {record.kind} holds NaN or infinite numbers")
    return torch.from_numpy(values)


def space_arrays(space: Space) -> dict[str, np.ndarray]:
    """A grid as arrays: (D,) shape and (D+1, D+1) affine, voxel index -> RAS mm."""
    return {"shape": np.asarray(space.shape, dtype=np.int64), "affine": space.affine.numpy()}


def space_from(arrays: dict[str, np.ndarray]) -> Space:
    """The grid of :func:`space_arrays`."""
    return Space(tuple(int(n) for n in arrays["shape"].ravel()), torch.from_numpy(arrays["affine"]))


def _encode_linear(transform: Linear) -> Record:
    return Record("linear", {"matrix": _numbers(transform.matrix.double(), 2)})


def _decode_linear(record: Record) -> Transform:
    matrix = _tensor(record, "matrix", 2)
    bottom = torch.zeros(matrix.shape[-1], dtype=matrix.dtype)
    bottom[-1] = 1
    # Products and exponentials of matrices leave the last row exact only to rounding.
    if not torch.allclose(matrix[-1], bottom, rtol=0, atol=1e-9):
        raise ValueError(f"the last row of a linear transform should be {bottom.tolist()}, got {matrix[-1].tolist()}")
    return Linear(torch.cat([matrix[:-1], bottom[None]]))


def _encode_tps(transform: ThinPlateSpline) -> Record:
    arrays = {
        "points": _numbers(transform.points, 2),
        "targets": _numbers(transform.targets, 2),
        "smoothing": np.float64(transform.smoothing),
        "scale": np.float64(transform.scale),
    }
    return Record("thin-plate spline", {k: np.asarray(v) for k, v in arrays.items()})


def _decode_tps(record: Record) -> Transform:
    return ThinPlateSpline(
        _tensor(record, "points", 2),
        _tensor(record, "targets", 2),
        float(_tensor(record, "smoothing", 0)),
        float(_tensor(record, "scale", 0)),
    )


def _encode_lattice_spline(transform: LatticeSpline) -> Record:
    moves = _numbers(transform.moves, transform.ndim + 1)
    return Record("lattice spline", {"moves": moves, **space_arrays(transform.lattice)})


def _decode_lattice_spline(record: Record) -> Transform:
    lattice = space_from(record.arrays)
    return LatticeSpline(_tensor(record, "moves", lattice.ndim + 1), lattice)


def _encode_field(transform: DisplacementField) -> Record:
    displacement = _numbers(transform.displacement, transform.ndim + 1)
    still = np.asarray(float(transform.still_outside))
    return Record("field", {"displacement": displacement, "still_outside": still, **space_arrays(transform.space)})


def _decode_field(record: Record) -> Transform:
    space = space_from(record.arrays)
    still = bool(_tensor(record, "still_outside", 0))
    return DisplacementField(_tensor(record, "displacement", space.ndim + 1), space, still)


def _encode_inverse(transform: NumericalInverse) -> Record:
    arrays = {"tolerance": np.asarray(transform.tolerance), "strict": np.asarray(float(transform.strict))}
    return Record("inverse", arrays, [encode(transform.forward)])


def _decode_inverse(record: Record) -> Transform:
    tolerance, strict = (float(_tensor(record, name, 0)) for name in ("tolerance", "strict"))
    return NumericalInverse(decode(record.parts[0]), tolerance, bool(strict))


def _encode_diffeomorphism(transform: Diffeomorphism) -> Record:
    return Record("diffeomorphism", {}, [_grained(transform.forward), _grained(transform.backward)])


def _grained(part: DisplacementField) -> Record:
    """A field rounded so that it can be packed: no component changes by more than 1/100 of a voxel."""
    record = _encode_field(part)
    record.grain = grain(part.space)
    values = record.arrays["displacement"].astype(np.float32)
    np.divide(values, np.float32(record.grain), out=values)
    np.rint(values, out=values)
    values += 0.0  # no negative zeros, which whole numbers do not keep
    record.arrays["displacement"] = np.multiply(values, np.float32(record.grain), out=values)
    return record


def _decode_diffeomorphism(record: Record) -> Transform:
    forward, backward = (decode(part) for part in record.parts)
    if not isinstance(forward, DisplacementField) or not isinstance(backward, DisplacementField):
        raise ValueError("a diffeomorphism is made of two fields")
    return Diffeomorphism(forward, backward)


def _encode_chain(transform: Composite) -> Record:
    return Record("chain", {}, [encode(part) for part in transform.parts])


def _decode_chain(record: Record) -> Transform:
    return Composite(tuple(decode(part) for part in record.parts))


CODECS: dict[type[Transform], Codec] = {
    Linear: Codec("linear", _encode_linear, _decode_linear),
    ThinPlateSpline: Codec("thin-plate spline", _encode_tps, _decode_tps),
    LatticeSpline: Codec("lattice spline", _encode_lattice_spline, _decode_lattice_spline),
    DisplacementField: Codec("field", _encode_field, _decode_field),
    NumericalInverse: Codec("inverse", _encode_inverse, _decode_inverse),
    Diffeomorphism: Codec("diffeomorphism", _encode_diffeomorphism, _decode_diffeomorphism),
    Composite: Codec("chain", _encode_chain, _decode_chain),
}
