"""The family of flows."""

from infimum.families.flow.flow import Flow

__all__ = ["Flow"]
