"""Proximal policy optimisation of a transformer that remembers the newest steps of an episode."""
