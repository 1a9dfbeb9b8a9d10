"""Densities of few coordinates: exponentials of smooth functions through values and slopes."""
