"""Gaits of the compass walker under the region-of-attraction method."""
