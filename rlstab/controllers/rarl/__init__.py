"""Training against a learned disturber without a constraint, in the manner of RARL."""
