"""Cells over model sizes and horizons, and what they say about a target."""
