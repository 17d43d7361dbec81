"""How good a registration is: figures with their units, and pictures (matplotlib is used here alone)."""
