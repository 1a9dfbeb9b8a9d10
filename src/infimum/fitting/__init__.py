"""The verbs `fit` and `climb`, and the fit that they return."""
