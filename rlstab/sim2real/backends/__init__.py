"""Robots that the runtime can control, one file each."""
