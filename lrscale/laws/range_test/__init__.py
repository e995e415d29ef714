"""Range tests: what a ramp of the LR says, and what it cannot say."""
