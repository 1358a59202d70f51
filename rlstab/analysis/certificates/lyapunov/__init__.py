"""Regions of attraction of closed loops in discrete time, proved by branch and bound, or measured and labelled so."""
