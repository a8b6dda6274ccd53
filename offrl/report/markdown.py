"""Pipe tables and the texts of numbers."""

from collections.abc import Sequence

from offrl.report.stats import Estimate

NOTHING = "–"
NOT_RUN = "not run"


def markdown(header: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table whose columns line up in a terminal too; `header` has (name, is a number).

    The last column is not padded: it may be long.
    """
    texts = [[name for name, _ in header], *([c.replace("|", "\\|") for c in r] for r in rows)]
    widths = [max(3, *(len(t[i]) for t in texts)) for i in range(len(header))]
    widths[-1] = 3
    numeric = [n for _, n in header]

    def line(cells: Sequence[str]) -> str:
        padded = [
            c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True)
        ]
        return "| " + " | ".join(padded) + " |\n"

    rule = ["-" * (w - 1) + ":" if n else "-" * w for w, n in zip(widths, numeric, strict=True)]
    return "".join(map(line, [texts[0], rule, *texts[1:]]))


def number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def interval(e: Estimate | None, sign: str = "") -> str:
    """`33.6 ± 1.9`; with a single value `33.6 (n=1)`."""
    if e is None:
        return NOTHING
    mean = f"{e.mean:{sign}.1f}"
    return f"{mean} (n=1)" if e.half_width is None else f"{mean} ± {e.half_width:.1f}"


def code(text: str) -> str:
    return f"`{text}`" if text else NOTHING
