"""Networks of the region-of-attraction method: controller, Lyapunov function and level, one for all modes."""
