"""Whether the layout of a global batch changes what a step computes, and why."""
