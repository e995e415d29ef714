"""Layouts of a batch over devices: the largest that fits, the timed ones, and the choice among them."""
