"""Noise scales of a study: the cells they are measured in, and what they say."""
