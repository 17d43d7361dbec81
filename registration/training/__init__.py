"""Training of registration networks on many pairs: data, objective, loop, checkpoints."""

from __future__ import annotations

from .imitation import Imitation
from .objective import Objective, Term
from .schedules import Constant, Cosine, Flat, Schedule
from .stage import NetworkPose, NetworkStage, NetworkStart, refinement
from .starts import Grids, Headers, Start
from .terms import Bending, Diffusion, Folding, InverseConsistency, LabelOverlap, Landmarks, Likeness
from .trainer import Outcome, Task, Trainer

__all__ = [
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
    "Likeness",
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
