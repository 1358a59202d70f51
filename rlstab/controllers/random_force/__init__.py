"""Training under forces of random direction."""
