"""Registration of one pair by optimisation: initial guesses, stages, pipelines."""

from .api import register
from .contrasts import stack_channels
from .diffeomorphic import DiffeomorphicStage, FieldLevel, Steps
from .folds import CellFolds, Folds, VoxelFolds
from .initialise import Auto, Centres, CentresOfMass, Header, Initialiser, Moments, Search
from .observe import Observer, Silent, StageReport
from .optimise import Descent, QuasiNewton
from .pair import Pair
from .pipeline import Pipeline, Result
from .presets import Preset
from .splines import SplineLevel, SplineStage
from .stages import LinearStage, Stage
from .terms import LabelOverlap, Landmarks, Term
from .window import windowed

__all__ = [
    "Auto",
    "CellFolds",
    "Centres",
    "CentresOfMass",
    "Descent",
    "DiffeomorphicStage",
    "FieldLevel",
    "Folds",
    "Header",
    "Initialiser",
    "LabelOverlap",
    "Landmarks",
    "LinearStage",
    "Moments",
    "Observer",
    "Pair",
    "Pipeline",
    "Preset",
    "QuasiNewton",
    "Result",
    "Search",
    "Silent",
    "SplineLevel",
    "SplineStage",
    "Stage",
    "StageReport",
    "Steps",
    "Term",
    "VoxelFolds",
    "register",
    "stack_channels",
    "windowed",
]
