import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
from synthetic_runs import FakeCell, config, write_run

from offrl.report.figures import curves
from offrl.report.load import load_runs, no_runs
from offrl.report.look import COLOURS
from offrl.report.suite import Suite, report_options


def demo(root: Path) -> Suite:
    cells = [
        FakeCell(config(algo, [seed], quality=quality, norm_obs=norm))
        for algo in ("bc", "td3_bc")
        for quality in ("medium", "expert")
        for norm in (True, False)
        for seed in (0, 1, 2)
    ]
    for c in cells:
        write_run(root, c)
    return Suite("demo", cells, report_options(title="A title"))


def lines_of(svg: str) -> list[str]:
    """The groups that matplotlib names line2d_*, with two points or more."""
    groups = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g")
    paths = (
        g.find("{http://www.w3.org/2000/svg}path") for g in groups if "line2d" in g.get("id", "")
    )
    return [p.get("style", "") for p in paths if p is not None and p.get("d", "").count("L") >= 3]


def test_same_records_same_bytes_whatever_the_settings_and_the_process(tmp_path: Path) -> None:
    suite = demo(tmp_path)
    first = curves(load_runs(tmp_path), suite)
    assert first is not None
    with matplotlib.rc_context({"xtick.direction": "in", "font.size": 20, "svg.fonttype": "none"}):
        assert curves(load_runs(tmp_path), suite) == first
        assert matplotlib.rcParams["font.size"] == 20  # and leaves others' settings alone
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from offrl.report.figures import curves; from offrl.report.load import load_runs\n"
        "sys.stdout.write(curves(load_runs(Path(sys.argv[1])), None))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parents[2])],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": "", "HOME": str(tmp_path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().decode() == curves(load_runs(tmp_path), None)


def test_no_date_no_version_no_font_and_at_most_900_pixels(tmp_path: Path) -> None:
    suite = demo(tmp_path)
    svg = curves(load_runs(tmp_path), suite)
    assert svg is not None
    assert "dc:date" not in svg
    assert matplotlib.__version__ not in svg
    assert "font-family" not in svg
    width = re.search(r'<svg [^>]*width="([\d.]+)pt"', svg)
    assert width is not None
    assert float(width[1]) * 96 / 72 <= 900
    ElementTree.fromstring(svg)


def test_a_panel_per_dataset_and_a_line_per_cell(tmp_path: Path) -> None:
    demo(tmp_path)
    svg = curves(load_runs(tmp_path), None)
    assert svg is not None
    drawn = lines_of(svg)
    assert len(drawn) == 8  # 2 panels of 2 algorithms, normalised or not
    for colour in COLOURS[:2]:
        assert sum(colour.lower() in style for style in drawn) == 4
    assert sum("dasharray" in style for style in drawn) == 4
    assert len(set(re.findall(r'id="axes_\d+"', svg))) == 2


def test_runs_that_do_not_count_are_not_drawn(tmp_path: Path) -> None:
    bc, td3_bc = FakeCell(config("bc")), FakeCell(config())
    write_run(tmp_path, bc)
    write_run(tmp_path, td3_bc, status="diverged")
    svg = curves(load_runs(tmp_path), Suite("x", [bc, td3_bc]))
    assert svg is not None
    assert len(lines_of(svg)) == 1
    assert curves(load_runs(tmp_path), Suite("x", [bc], report_options(floor=10**6))) is None
    assert curves(no_runs(), None) is None


def test_cells_that_differ_by_another_setting_have_two_lines(tmp_path: Path) -> None:
    for alpha in (1.0, 2.5):
        cell = FakeCell(config(alpha=alpha), fixed=[f"algo.alpha={alpha}"])
        write_run(tmp_path, cell)
    svg = curves(load_runs(tmp_path), None)
    assert svg is not None
    assert len(set(lines_of(svg))) == 2
