"""Processes of ranks on one node: the server that forks them, the reaper that leaves none behind, a trial's group."""
