"""Algebra of Gaussians that several packages share: sparse factors, stacks, Student's t."""
