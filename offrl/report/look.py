"""How lines look, and figures as SVG, the same bytes every time."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from offrl.report.groups import Group
from offrl.report.methods import methods, name

# Okabe and Ito's colours, which people with any colour vision can tell apart, without the yellow
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
Dashes = str | tuple[float, tuple[float, ...]]
DASHES: tuple[Dashes, ...] = ("solid", (0.0, (5.0, 2.0)), (0.0, (1.0, 1.5)))
GREY = "#777777"
WIDTH = 9.0  # inches of 72 pt: 864 px in a browser
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "offrl",  # ids of clip paths would be random
    "svg.fonttype": "path",  # looks the same with any fonts installed
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#999999",
    "axes.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "path.simplify": False,
}


class Look(NamedTuple):
    """How the lines of one label are drawn."""

    label: str
    colour: str
    dashes: Dashes
    fill: str  # of the markers; "" means the line's colour

    def handle(self, marker: str) -> Line2D:
        """What stands for it in a legend."""
        line = Line2D([], [], color=self.colour, ls=self.dashes, lw=1.6, marker=marker, ms=4)
        line.set_markerfacecolor(self.fill or self.colour)
        return line


def looks(groups: Sequence[Group]) -> dict[str, Look]:
    """The look of every group, by its key: a colour per algorithm, dashes for its settings."""
    named = methods(groups)
    algos = list(dict.fromkeys(algo for algo, _ in named.values()))
    kinds = list(dict.fromkeys(kind for _, kind in named.values()))
    pairs = list(dict.fromkeys(named.values()))
    found = {}
    for key, pair in named.items():
        algo, kind = pair
        by_kind = len(kinds) <= len(DASHES)  # else a colour for every line
        colour = algos.index(algo) if by_kind else pairs.index(pair)
        dash = kinds.index(kind) if by_kind else pairs.index(pair) // len(COLOURS)
        found[key] = Look(
            name(pair),
            COLOURS[colour % len(COLOURS)],
            DASHES[dash % len(DASHES)],
            "" if dash % len(DASHES) == 0 else "white",
        )
    return found


def by_method(groups: Sequence[Group]) -> Mapping[str, Look]:
    """The looks of `groups`, by the names of their methods."""
    return {look.label: look for look in looks(groups).values()}


def plain(axes: Axes) -> None:
    """The frame of a panel: two axes and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E6E6E6", lw=0.7)
    axes.set_axisbelow(True)


def svg(draw: Callable[[], Figure]) -> str:
    """The figure that `draw` makes, without date, version, fonts or the user's settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = draw()
        FigureCanvasSVG(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
