"""Records of runs -> tables and figures.

report.py tables                     rebuild the README's tables and the figures from results/
report.py tables --check             write nothing; exit 1 with a diff if anything would change
report.py tables --runs DIR          print the table of the runs below DIR
report.py publish SUITE --runs DIR   copy a suite's finished runs below DIR to results/SUITE
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a clone works uninstalled

if TYPE_CHECKING:
    from offrl.report.suite import Suite


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    from offrl.errors import UserError

    try:
        if args.command == "publish":
            return publish(args.suite, args.runs)
        if args.runs is not None:
            return show(args.runs, args.suite, args.last_k, args.figure)
        return rebuild(args.check)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1


def show(runs_root: Path, name: str | None, last_k: int, figure: Path | None) -> int:
    from offrl.atomic import write_atomic
    from offrl.errors import UserError
    from offrl.report.figures import curves
    from offrl.report.load import load_runs
    from offrl.report.tables import tables

    suite = load_suite(name) if name else None
    runs = load_runs(runs_root, only=[c.run_id for c in suite.cells] if suite else None)
    choice = ["--suite", name] if name else ["--last-k", str(last_k)]
    words = ["python", "benchmarks/report.py", "tables", "--runs", str(runs_root), *choice]
    print(tables(runs, suite, shlex.join(words), last_k), end="")
    if figure is not None:
        svg = curves(runs, suite)
        if svg is None:
            raise UserError(f"{runs_root}: no complete run, so no figure")
        write_atomic(figure, svg.encode())
        print(f"\nLearning curves: {figure}")
    return 0


def rebuild(check: bool) -> int:
    from offrl.report import readme
    from offrl.report.policies import policies

    others = {"behaviour": policies(ROOT / "offrl" / "policies")}
    files = readme.build(ROOT / "README.md", ROOT / "results", load_suite, others)
    if not check:
        for path in readme.write(files):
            print(f"wrote {path.relative_to(ROOT)}")
        return 0
    diff = readme.difference(files, ROOT)
    if diff:
        print(diff)
        print("stale: run `python benchmarks/report.py tables` and commit", file=sys.stderr)
    return 1 if diff else 0


def publish(name: str, runs_root: Path) -> int:
    from offrl.report.publish import publish

    done = publish(load_suite(name), runs_root, ROOT / "results")
    print(
        f"{done.folder.relative_to(ROOT)}: {len(done.added)} runs published, {len(done.kept)} kept"
    )
    for run in done.dropped:
        print(f"dropped, no longer of the suite: {run}")
    for run in done.left_out:
        print(f"left out: {run}")
    print("now: python benchmarks/report.py tables")
    return 0


def load_suite(name: str) -> "Suite":
    """Raises UserError for a name that no experiment has."""
    from omegaconf import OmegaConf

    from offrl.errors import UserError
    from offrl.report.suite import ReportOptions, Suite
    from offrl.suite import suite_cells

    path = ROOT / "conf" / "experiment" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise UserError(f"{name}: no such suite; there are {known}")
    experiment = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(experiment, dict)
    options = ReportOptions.from_node(experiment.get("report") or {}, path.name)
    return Suite(name, suite_cells(name), options)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="tables | publish")
    table = commands.add_parser("tables", help="Markdown tables, of the README or of --runs")
    table.add_argument("--check", action="store_true", help="write nothing, exit 1 on a change")
    table.add_argument("--runs", type=Path, metavar="DIR", help="print the table of these runs")
    table.add_argument("--suite", metavar="SUITE", help="with --runs: that suite's rows only")
    table.add_argument(
        "--last-k",
        type=_positive,
        default=5,
        metavar="K",
        help="with --runs, without --suite: evaluations in the second score column (default 5)",
    )
    table.add_argument("--figure", type=Path, metavar="SVG", help="with --runs: learning curves")
    copy = commands.add_parser("publish", help="finished runs of a suite -> results/SUITE")
    copy.add_argument("suite", metavar="SUITE", help="a file in conf/experiment, without .yaml")
    copy.add_argument("--runs", type=Path, metavar="DIR", required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
