"""The region-of-attraction method for the hopper that goes through corridors."""
