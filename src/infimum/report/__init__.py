"""The report of a fit, as one HTML page."""

from infimum.report import _libraries as _libraries
