"""Medical image registration with spatial transformers: 2-D and 3-D, affine, thin-plate spline and beyond."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
