"""Search sessions over the catalogue."""
