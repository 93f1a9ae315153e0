"""Volumes, track files and the catalogue."""
