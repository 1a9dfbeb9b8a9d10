"""Checks: how near q is, from arrays of log weights and draws alone."""
