"""Control of hybrid systems by Lyapunov functions for every mode, and a planner that chooses the modes' references."""
