"""Families of transforms: dimensionless parameters in, a map of world points out, zeros the identity."""

from .affine import Affine
from .base import Family
from .landmarks import AffineFit, LandmarkFit, RigidFit, SplineFit
from .lattices import Given, Lattice, LatticeNear, Layout
from .rigid import Rigid
from .similarity import Similarity
from .tps import ThinPlateSplines
from .velocity import Velocity

__all__ = [
    "Affine",
    "AffineFit",
    "Family",
    "Given",
    "LandmarkFit",
    "Lattice",
    "LatticeNear",
    "Layout",
    "Rigid",
    "RigidFit",
    "Similarity",
    "SplineFit",
    "ThinPlateSplines",
    "Velocity",
]
