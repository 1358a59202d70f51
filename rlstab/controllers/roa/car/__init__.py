"""The region-of-attraction method on the car: training, planner of references, drives along roads, baselines."""
