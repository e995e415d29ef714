"""Synthetic studies with known truth, for tests of whatever reads a study."""
