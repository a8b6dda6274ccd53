"""Markdown tables, read back."""

import re


def rows(text: str) -> list[dict[str, str]]:
    """The rows of all pipe tables of a text."""
    found: list[dict[str, str]] = []
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not header:
            header = cells
        elif not set(cells[0]) <= set("-:"):
            found.append(dict(zip(header, cells, strict=True)))
    return found
