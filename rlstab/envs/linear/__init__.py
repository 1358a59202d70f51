"""Linear systems with a quadratic cost, whose best controllers and worst disturbances are known exactly."""
