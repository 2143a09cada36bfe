"""Training: steps, epochs, and how they end."""

from fastnn.training.objective import Objective
from fastnn.training.trainer import Trainer

__all__ = ["Objective", "Trainer"]
