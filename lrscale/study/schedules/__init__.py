"""The comparison of schedules and optimizers: its cells, how each gets on along the way, and the answer."""
