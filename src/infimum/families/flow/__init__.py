"""Flows: coupling layers on the draws of another family."""

from infimum.families.flow.flow import Flow

__all__ = ["Flow"]
