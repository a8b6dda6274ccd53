"""Learning curves."""

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from offrl.report.groups import Group, evaluations_of, summarise
from offrl.report.load import Runs
from offrl.report.look import GREY, WIDTH, Look, looks, plain, svg
from offrl.report.suite import Suite

DATA_DASHES = (0, (6.0, 4.0))
Panels = dict[tuple[str, str, str], list[Group]]  # by environment, dataset and reference


def curves(runs: Runs, suite: Suite | None) -> str | None:
    """Score against gradient steps, a panel per dataset, as SVG; None if no run counts.

    A line is the mean over the seeds of a group, its shade reaches from the worst seed to the best.
    """
    groups = [g for g in summarise(runs, suite) if g.counted]
    if not groups:
        return None
    panels: Panels = {}
    for g in groups:
        panels.setdefault((g.about.env, g.about.dataset, g.reference or ""), []).append(g)
    title = suite.options.title if suite else None
    return svg(lambda: _draw(runs, panels, looks(groups), title))


def _draw(runs: Runs, panels: Panels, found: dict[str, Look], title: str | None) -> Figure:
    rows = -(-len(panels) // 3)
    columns = -(-len(panels) // rows)
    entries = list(dict.fromkeys(found.values()))
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
    for i, ((env, dataset, reference), groups) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[divmod(i, columns)])
        axes.set_title(f"{env}, {dataset}", loc="left", color="#222222")
        if i % columns == 0 or len(references) > 1:
            axes.set_ylabel(f"score ({reference})")
        if i + columns >= len(panels):
            axes.set_xlabel("gradient steps")
        _panel(axes, runs, groups, found)
    figure.align_ylabels()
    if title:
        figure.text(0.15 / WIDTH, 1 - 0.22 / height, title, fontsize=11, va="center")
    handles: list[Artist] = [e.handle("o") for e in entries]
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


def _panel(axes: Axes, runs: Runs, groups: Sequence[Group], found: dict[str, Look]) -> None:
    for g in groups:
        look = found[g.about.group]
        by_step = evaluations_of(runs, g).groupby("step")["score_mean"]
        mean, low, high = (x.round(3) for x in (by_step.mean(), by_step.min(), by_step.max()))
        steps = mean.index.to_numpy()
        axes.fill_between(steps, low, high, color=look.colour, alpha=0.12, lw=0)
        line = axes.plot(steps, mean, color=look.colour, ls=look.dashes, lw=1.6)[0]
        if len(steps) <= 12:  # more would be a row of beads
            line.set(marker="o", markersize=3.5, markerfacecolor=look.fill or look.colour)
    for data in dict.fromkeys(g.run["data_score_mean"] for g in groups if g.run):
        if data is not None:  # None: the data has no complete episode
            axes.axhline(round(data, 3), color=GREY, lw=1.0, ls=DATA_DASHES, zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    plain(axes)


def _thousands(value: float, _: int | None = None) -> str:
    if value and value % 1000 == 0:
        return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k"
    return f"{value:g}"
