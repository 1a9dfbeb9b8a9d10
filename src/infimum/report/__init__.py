"""The report of a fit, as one HTML page."""

from infimum.report import libraries as libraries
