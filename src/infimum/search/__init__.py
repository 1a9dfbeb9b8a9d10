"""The search for q: starts, ascents, the loop of solvers, scouts, the surrogate of many rows."""
