"""Records of transforms as they are kept in a file."""

from __future__ import annotations

import pytest
import torch

from registration.io.chain import decode, encode
from registration.transforms.linear import Linear


def test_rounding_in_the_last_row_is_mended_and_more_is_refused() -> None:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3] += torch.rand(3, 4, dtype=torch.float64)
    rounded = matrix.clone()
    rounded[3] += torch.tensor([1e-17, 0, -1e-16, 2.3e-16], dtype=torch.float64)
    read = decode(encode(Linear(rounded)))
    assert isinstance(read, Linear) and torch.equal(read.matrix, matrix)
    rounded[3, 0] = 1e-3
    with pytest.raises(ValueError, match="last row"):
        decode(encode(Linear(rounded)))
