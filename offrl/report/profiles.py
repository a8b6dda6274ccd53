"""Performance profiles."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from offrl.report.aggregate import profile
from offrl.report.comparison import Comparison
from offrl.report.look import WIDTH, Look, plain, svg

POINTS = 121


def profiles(comparison: Comparison, looks: Mapping[str, Look], reference: str) -> str:
    """The share of runs with a score above each threshold, a line per method, as SVG."""
    return svg(lambda: _draw(comparison, looks, reference))


def _draw(comparison: Comparison, looks: Mapping[str, Look], reference: str) -> Figure:
    last = {method: s.last for method, s in comparison.scores.items()}
    low = min(s.min() for s in last.values())
    high = max(s.max() for s in last.values())
    thresholds = np.linspace(np.floor(low), np.ceil(high), POINTS).round(3)
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.add_axes((0.62 / WIDTH, 0.14, 0.62, 0.76))
    for method, scores in last.items():
        look = looks[method]
        share, below, above = (x.round(4) for x in profile(scores, thresholds))
        if comparison.n_seeds > 1:
            axes.fill_between(thresholds, below, above, color=look.colour, alpha=0.12, lw=0)
        axes.plot(thresholds, share, color=look.colour, ls=look.dashes, lw=1.6)
    several = f"{comparison.n_seeds} seeds, 95% at every threshold"
    axes.set_title(
        f"{len(comparison.tasks)} tasks x {several if comparison.n_seeds > 1 else '1 seed'}",
        loc="left",
        color="#222222",
    )
    axes.set_xlabel(f"threshold ({reference})")
    axes.set_ylabel("share of runs above it")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(thresholds[0], thresholds[-1])
    plain(axes)
    handles = [looks[m].handle("") for m in last]
    figure.legend(
        handles,
        list(last),
        loc="upper left",
        bbox_to_anchor=(0.62 / WIDTH + 0.64, 0.92),
        frameon=False,
        handlelength=3.2,
    )
    return figure
