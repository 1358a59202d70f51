"""Systems that switch: dynamics written once for numpy and torch, and environments on top of them."""
