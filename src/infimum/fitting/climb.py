"""The climb: every rung that was tried, with the best fit."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infimum.answer.record import Route, RungReport
from infimum.checks.quantities import VERDICTS
from infimum.fitting.fit import Fit


@dataclass(frozen=True, eq=False)
class Climb:
    """Every rung that was tried, in order. Iterating gives the fits.

    Attributes
    ----------
    fits
        One fit for each rung.
    skipped
        (name, reason) of each rung that was not tried.
    ended
        Why the climb ended.
    """

    fits: tuple[Fit, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    ended: str = ""

    @property
    def best(self) -> Fit:
        """The fit of the best verdict, and among these of the highest ELBO."""
        return max(self.fits, key=_worth)

    @property
    def route(self) -> Route:
        """The climb in numbers, as its best fit keeps it."""
        rungs = [
            RungReport(f.family.name, f.elbo, f.kl, f.verdict, f.work.seconds) for f in self.fits
        ]
        return Route(tuple(rungs), self.skipped, self.ended)

    def table(self) -> str:
        """A line a rung: family, ELBO, log Z, KL, ESS, verdict, gradients, seconds."""
        head = ("family", "ELBO", "log Z", "KL (nats)", "ESS", "verdict", "gradients", "seconds")
        rows = [head, *(_row(fit) for fit in self.fits)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("─" * width for width in widths))
        skipped = [f"{name}: skipped, {why}" for name, why in self.skipped]
        return "\n".join([*lines, *skipped, *([f"ended: {self.ended}"] if self.ended else [])])

    def plot(self, **options: Any) -> Any:
        """KL left against seconds spent, a point a rung; see `infimum.plots`."""
        from infimum.plots.climb import plot_climb

        return plot_climb(self, **options)

    def report(self, path: str | Path, *, title: str | None = None) -> Path:
        """Write the report of the best fit, with the ladder that led to it; see `Fit.report`."""
        best = dataclasses.replace(self.best, route=self.route)
        return best.report(path, title=title)

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.fits)

    def __len__(self) -> int:
        return len(self.fits)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.table())}</pre>{self.best._repr_html_()}"


def _worth(fit: Fit) -> tuple[int, float]:
    """Of two rungs the one that can be believed is the better answer."""
    return VERDICTS.index(fit.verdict), float(np.nan_to_num(fit.elbo.value, nan=-np.inf))


def _row(fit: Fit) -> tuple[str, ...]:
    return (
        fit.family.name,
        str(fit.elbo),
        str(fit.log_evidence),
        str(fit.kl),
        f"{fit.ess:.0f}/{fit.n_draws}",
        fit.verdict,
        f"{fit.work.n_gradients:,}",
        f"{fit.work.seconds:.2f}",
    )
