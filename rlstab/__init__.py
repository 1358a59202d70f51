"""rlstab: train, analyse and deploy controllers, and ask whether they hold."""

__version__ = "0.1.0"
