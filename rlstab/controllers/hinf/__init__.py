"""Training against a learned disturber under an H-infinity constraint."""
