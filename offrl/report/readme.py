"""The README's sections between markers, and the figures, from the records in results/."""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from offrl.atomic import write_atomic
from offrl.errors import UserError
from offrl.report.load import load_runs, no_runs
from offrl.report.section import section
from offrl.report.suite import Suite

REGENERATE = "python benchmarks/report.py tables"
_MARKER = re.compile(r"<!-- (/?)table:([\w.-]+) -->")
_CLIP = 60  # lines of a figure's difference that are worth printing


def build(
    readme: Path,
    results: Path,
    suite: Callable[[str], Suite],
    others: Mapping[str, str] = MappingProxyType({}),
) -> dict[Path, str]:
    """The README and figure files as they should be.

    A suite is one that the README has markers for, published or not; `suite` makes it from its
    name.  `others` are sections that are no suite.  Raises UserError for markers that do not pair,
    and for a published suite without any.
    """
    text = _read(readme)
    names = marked(text, str(readme))
    published = sorted(p.parent.name for p in results.glob("*/runs.jsonl"))
    for name in published:
        if name not in names:
            raise UserError(
                f"{readme}: no place for the published suite {name}; "
                f"add the lines {opening(name)} and {closing(name)}"
            )
    files: dict[Path, str] = {}
    sections = {name: text for name, text in others.items() if name in names}
    for name in names:
        if name in others:
            continue
        folder = results / name
        runs = load_runs(folder) if name in published else no_runs()
        sections[name], shown = section(runs, suite(name), folder, readme, REGENERATE)
        files |= shown
    files[readme] = replaced(text, sections)
    return files


def marked(text: str, where: str) -> list[str]:
    """The names of the sections in order.  Raises UserError unless each opens and closes once."""
    names: list[str] = []
    open_name: str | None = None
    for end, name in _MARKER.findall(text):
        if not end and open_name is None and name not in names:
            names.append(name)
            open_name = name
        elif end and open_name == name:
            open_name = None
        else:
            marker = closing(name) if end else opening(name)
            raise UserError(f"{where}: {marker} stands where it cannot; pair the markers")
    if open_name is not None:
        raise UserError(f"{where}: {opening(open_name)} without {closing(open_name)}; add it")
    return names


def replaced(text: str, sections: Mapping[str, str]) -> str:
    """The text with new contents between the markers of each name."""
    for name, body in sections.items():
        start = text.index(opening(name)) + len(opening(name))
        end = text.index(closing(name))
        text = f"{text[:start]}\n{body}{text[end:]}"
    return text


def opening(name: str) -> str:
    return f"<!-- table:{name} -->"


def closing(name: str) -> str:
    return f"<!-- /table:{name} -->"


def difference(files: Mapping[Path, str], root: Path) -> str:
    """A unified diff from what lies on disk to `files`; empty if they are the same bytes."""
    parts = []
    for path, new in files.items():
        old = path.read_bytes() if path.exists() else b""
        if old == new.encode():
            continue
        name = Path(os.path.relpath(path, root)).as_posix()
        lines = list(
            difflib.unified_diff(
                old.decode(errors="replace").splitlines(),
                new.splitlines(),
                f"{name} (committed)",
                f"{name} (regenerated)",
                lineterm="",
            )
        ) or [f"{name}: line ends differ"]
        if path.suffix == ".svg" and len(lines) > _CLIP:
            lines = [*lines[:_CLIP], f"... {len(lines) - _CLIP} more lines in {name}"]
        parts += [*lines, ""]
    return "\n".join(parts)


def write(files: Mapping[Path, str]) -> list[Path]:
    """Writes what differs, each file whole; returns those.  Raises UserError if one cannot be."""
    changed = [p for p, t in files.items() if not p.exists() or p.read_bytes() != t.encode()]
    for path in changed:
        path.parent.mkdir(exist_ok=True)  # of a suite that has no record yet
        write_atomic(path, files[path].encode())
    return changed


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read: {e}") from e
