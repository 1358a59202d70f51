"""Proximal policy optimisation that answers nearby observations alike."""
