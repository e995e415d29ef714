"""LR range tests of a study: the ramps, the runs that confirm them, and what they say."""
