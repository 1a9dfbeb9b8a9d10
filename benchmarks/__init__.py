"""Benchmarks of infimum against posteriors with trusted answers."""
