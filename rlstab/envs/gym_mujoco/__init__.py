"""Gymnasium's v5 MuJoCo tasks, written for many worlds at once, and variants of them."""
