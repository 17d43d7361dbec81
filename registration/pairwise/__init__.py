"""Registration of one pair by optimisation: initial guesses, stages, pipelines."""

from .api import register
from .initialise import Centres, CentresOfMass, Header, Initialiser
from .observe import Observer, Silent, StageReport
from .optimise import Descent, QuasiNewton
from .pair import Pair
from .pipeline import Pipeline, Result
from .splines import SplineLevel, SplineStage
from .stages import LinearStage, Stage

__all__ = [
    "Centres",
    "CentresOfMass",
    "Descent",
    "Header",
    "Initialiser",
    "LinearStage",
    "Observer",
    "Pair",
    "Pipeline",
    "QuasiNewton",
    "Result",
    "Silent",
    "SplineLevel",
    "SplineStage",
    "Stage",
    "StageReport",
    "register",
]
