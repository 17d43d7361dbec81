"""Training of registration networks on many pairs: data, objective, loop, checkpoints."""

from __future__ import annotations

from .augmentation import Augmentation
from .imitation import Imitation
from .objective import Objective, Term
from .pose import NetworkPose
from .schedules import Constant, Cosine, Flat, Schedule
from .stage import NetworkStage, NetworkStart, refinement
from .starts import Grids, Headers, Start
from .terms import (
    Bending,
    Diffusion,
    Folding,
    InverseConsistency,
    LabelOverlap,
    Landmarks,
    LandmarksBack,
    Likeness,
    Naming,
)
from .trainer import Outcome, Task, Trainer

__all__ = [
    "Augmentation",
    "Bending",
    "Constant",
    "Cosine",
    "Diffusion",
    "Flat",
    "Folding",
    "Grids",
    "Headers",
    "Imitation",
    "InverseConsistency",
    "LabelOverlap",
    "Landmarks",
    "LandmarksBack",
    "Likeness",
    "Naming",
    "NetworkPose",
    "NetworkStage",
    "NetworkStart",
    "Objective",
    "Outcome",
    "Schedule",
    "Start",
    "Task",
    "Term",
    "Trainer",
    "refinement",
]
