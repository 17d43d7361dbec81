"""Whether values fit the type of voxels that they are written in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..image import Image
from ..io.raw import EXACT_IN_FLOAT32

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")
_COARSE = 8.0  # a range of values that whole numbers tell little of


class Fitting:
    """Looks at images before they are written.

    Parameters
    ----------
    source
        The file they come from.
    dtype
        Of the voxels that are written: one of :data:`TYPES`.
    labels
        Whether their values are names, of which none may become another.
    """

    def __init__(self, source: Path, dtype: np.dtype, labels: bool) -> None:
        self.source, self.dtype, self.labels = source, dtype, labels
        self.beyond, self.fractions = 0, False
        self.low, self.high = np.inf, -np.inf

    def look(self, image: Image) -> None:
        """Take in one image.

        Raises
        ------
        InputError
            If it holds a label that the type cannot name.
        """
        values = image.data.numpy()
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.dtype.kind == "f":
            limits = (-float(EXACT_IN_FLOAT32), float(EXACT_IN_FLOAT32)) if self.labels else (-np.inf, np.inf)
        else:
            limits = float(np.iinfo(self.dtype).min), float(np.iinfo(self.dtype).max)
            self.fractions = self.fractions or bool((values != np.rint(values)).any())
        if np.rint(low) >= limits[0] and np.rint(high) <= limits[1]:
            return
        if self.labels:
            wrong = high if np.rint(high) > limits[1] else low
            problem = f"{self.source} holds the label {wrong:.17g}, which {self.dtype} cannot hold"
            raise InputError(f"--dtype {self.dtype}", problem, "choose another, such as int32")
        self.beyond += int(np.count_nonzero((np.rint(values) < limits[0]) | (np.rint(values) > limits[1])))

    def notes(self) -> list[str]:
        """What was lost, in sentences."""
        ends = f"values from {self.low:.4g} to {self.high:.4g}"
        if self.beyond:
            limits = f"{np.iinfo(self.dtype).min} to {np.iinfo(self.dtype).max}"
            return [f"{self.source}: {self.beyond:,} of the {ends} lie beyond {self.dtype} ({limits}) and are cut off"]
        if self.fractions and self.high - self.low < _COARSE:
            return [f"{self.source}: of its {ends} {self.dtype} keeps whole numbers only"]
        return []
