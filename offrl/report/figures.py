"""Learning curves as SVG, the same bytes every time."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from offrl.report.cells import Cell, evaluations_of, summarise
from offrl.report.load import Runs
from offrl.report.suite import Suite

# Okabe and Ito's colours, which people with any colour vision can tell apart, without the yellow
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
Dashes = str | tuple[float, tuple[float, ...]]
DASHES: tuple[Dashes, ...] = ("solid", (0.0, (5.0, 2.0)), (0.0, (1.0, 1.5)))
GREY = "#777777"
DATA_DASHES = (0, (6.0, 4.0))
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


def curves(runs: Runs, suite: Suite | None) -> str | None:
    """Score against gradient steps, a panel per dataset, as SVG; None if no run counts.

    A line is the mean over the seeds of a cell, its shade reaches from the worst seed to the best.
    """
    cells = [c for c in summarise(runs, suite) if c.counted]
    if not cells:
        return None
    panels: dict[tuple[str, str, str], list[Cell]] = {}
    for c in cells:
        panels.setdefault((c.about.env, c.about.dataset, c.reference or ""), []).append(c)
    title = suite.options.title if suite else None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = _draw(runs, panels, _series(cells), title)
        return _svg(figure)


def _series(cells: Sequence[Cell]) -> dict[str, Look]:
    """The look of every cell, by its key: a colour per algorithm, dashes for its settings."""
    settings = {c.about.cell: _setting(c, cells) for c in cells}
    algos = list(dict.fromkeys(c.about.algo for c in cells))
    kinds = list(dict.fromkeys(settings.values()))
    pairs = list(dict.fromkeys((c.about.algo, settings[c.about.cell]) for c in cells))
    looks = {}
    for c in cells:
        algo, kind = pair = (c.about.algo, settings[c.about.cell])
        by_kind = len(kinds) <= len(DASHES)  # else a colour for every line
        colour = algos.index(algo) if by_kind else pairs.index(pair)
        dash = kinds.index(kind) if by_kind else pairs.index(pair) // len(COLOURS)
        looks[c.about.cell] = Look(
            f"{algo}, {kind}" if kind else algo,
            COLOURS[colour % len(COLOURS)],
            DASHES[dash % len(DASHES)],
            "" if dash % len(DASHES) == 0 else "white",
        )
    return looks


def _setting(cell: Cell, cells: Sequence[Cell]) -> str:
    """What tells a cell from the others of its algorithm and data, in the config's words."""
    peers = [c for c in cells if c.about.algo == cell.about.algo]
    names = ("norm_obs", "buffer_size", "n_updates")
    varying = [n for n in names if len({getattr(c.about, n) for c in peers}) > 1]
    parts = [f"{n}={getattr(cell.about, n)}".lower() for n in varying]
    same = [
        c
        for c in peers
        if (c.about.env, c.about.dataset) == (cell.about.env, cell.about.dataset)
        and all(getattr(c.about, n) == getattr(cell.about, n) for n in names)
    ]
    if len(same) > 1:  # they differ by something else: say what the command line says
        shared = frozenset.intersection(*(frozenset(c.overrides) for c in same))
        parts += [o for o in cell.overrides if o not in shared] or [cell.about.cell[:4]]
    return ", ".join(parts)


def _draw(
    runs: Runs,
    panels: dict[tuple[str, str, str], list[Cell]],
    looks: dict[str, Look],
    title: str | None,
) -> Figure:
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    entries = list(dict.fromkeys(looks.values()))
    labels = [*(e.label for e in entries), "mean of the data", "worst to best seed"]
    fit = max(1, 124 // (max(map(len, labels)) + 8))  # columns of the legend
    lines = -(-len(labels) // fit)
    head = 0.2 + 0.21 * lines + (0.3 if title else 0.0)
    panel, foot, gap = (2.5 if columns > 1 else 2.9), 0.5, 0.62
    height = head + 0.22 + rows * panel + (rows - 1) * gap + foot
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.add_gridspec(
        rows,
        columns,
        left=0.62 / WIDTH,
        right=1 - 0.15 / WIDTH,
        top=1 - (head + 0.22) / height,
        bottom=foot / height,
        hspace=gap / panel,
        wspace=0.2,
    )
    references = {reference for _, _, reference in panels}
    for i, ((env, dataset, reference), cells) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[divmod(i, columns)])
        axes.set_title(f"{env}, {dataset}", loc="left", color="#222222")
        if i % columns == 0 or len(references) > 1:
            axes.set_ylabel(f"score ({reference})")
        if i + columns >= len(panels):
            axes.set_xlabel("gradient steps")
        _panel(axes, runs, cells, looks)
    figure.align_ylabels()
    if title:
        figure.text(0.15 / WIDTH, 1 - 0.22 / height, title, fontsize=11, va="center")
    handles: list[Artist] = [
        Line2D(
            [], [], color=e.colour, ls=e.dashes, lw=1.6, marker="o", ms=4, mfc=e.fill or e.colour
        )
        for e in entries
    ]
    handles.append(Line2D([], [], color=GREY, ls=DATA_DASHES, lw=1.0))
    handles.append(Patch(color=GREY, alpha=0.2, lw=0))
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0.08 / WIDTH, 1 - (0.38 if title else 0.08) / height),
        ncols=-(-len(labels) // lines),
        frameon=False,
        handlelength=3.2,
        columnspacing=1.6,
        borderpad=0.2,
    )
    return figure


def _panel(axes: Axes, runs: Runs, cells: Sequence[Cell], looks: dict[str, Look]) -> None:
    for c in cells:
        look = looks[c.about.cell]
        by_step = evaluations_of(runs, c).groupby("step")["score_mean"]
        mean, low, high = (x.round(3) for x in (by_step.mean(), by_step.min(), by_step.max()))
        steps = mean.index.to_numpy()
        axes.fill_between(steps, low, high, color=look.colour, alpha=0.12, lw=0)
        line = axes.plot(steps, mean, color=look.colour, ls=look.dashes, lw=1.6)[0]
        if len(steps) <= 12:  # more would be a row of beads
            line.set(marker="o", markersize=3.5, markerfacecolor=look.fill or look.colour)
    for data in dict.fromkeys(c.run["data_score_mean"] for c in cells if c.run):
        if data is not None:  # None: the data has no complete episode
            axes.axhline(round(data, 3), color=GREY, lw=1.0, ls=DATA_DASHES, zorder=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis="y", color="#E6E6E6", lw=0.7)
    axes.set_axisbelow(True)


def _thousands(value: float, _: int | None = None) -> str:
    if value and value % 1000 == 0:
        return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k"
    return f"{value:g}"


def _svg(figure: Figure) -> str:
    FigureCanvasSVG(figure)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
