"""Small control benchmarks as difference equations that are written once, for numbers and for bounds alike."""

from rlstab.envs.plants.plant import Plant, Quantity, SmoothFunction
from rlstab.envs.plants.systems import PLANTS, CartPole, InvertedPendulum, PathTracking, PlanarQuadrotor

__all__ = [
    "PLANTS",
    "CartPole",
    "InvertedPendulum",
    "PathTracking",
    "PlanarQuadrotor",
    "Plant",
    "Quantity",
    "SmoothFunction",
]
