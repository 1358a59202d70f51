"""Statements about a policy that say exactly what is proved, for what, and by which means."""
