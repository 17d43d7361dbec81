"""Families of transforms: dimensionless parameters in, a map of world points out, zeros the identity."""

from .affine import Affine
from .base import Family
from .lattices import Given, Lattice, LatticeNear, Layout
from .rigid import Rigid
from .similarity import Similarity
from .tps import ThinPlateSplines
from .velocity import Velocity

__all__ = [
    "Affine",
    "Family",
    "Given",
    "Lattice",
    "LatticeNear",
    "Layout",
    "Rigid",
    "Similarity",
    "ThinPlateSplines",
    "Velocity",
]
