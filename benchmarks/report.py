"""Records of runs -> tables and figures.

report.py tables                     rebuild the README's tables and the figures from results/
report.py tables --check             write nothing; exit 1 with a diff if anything would change
report.py tables --runs DIR          print the table of the runs below DIR
report.py publish SUITE --runs DIR   copy a suite's finished runs below DIR to results/SUITE
report.py stats SUITE [--runs DIR]   IQM and probability of improvement over a suite's tasks
report.py eop --runs DIR             what a budget of n tried hyperparameter settings brings
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a clone works uninstalled

if TYPE_CHECKING:
    from offrl.report.load import Runs
    from offrl.report.suite import Suite


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    from offrl.errors import UserError
    from offrl.pipe import until_closed

    try:
        with until_closed():
            return _command(args)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1


def _command(args: argparse.Namespace) -> int:
    from offrl.errors import UserError

    if args.command == "publish":
        return publish(args.suite, args.runs)
    if args.command == "stats":
        return stats(args.suite, args.runs, args.last_k, args.baseline, args.figure)
    if args.command == "eop":
        return eop(args.runs, args.suite)
    if args.runs is None and (args.suite or args.figure):
        raise UserError("tables: --suite and --figure are for the table of --runs DIR")
    if args.runs is not None and args.check:
        raise UserError("tables: --check is for the README; leave out --runs")
    if args.runs is not None:
        return show(args.runs, args.suite, args.last_k, args.figure)
    return rebuild(args.check)


def show(runs_root: Path, name: str | None, last_k: int, figure: Path | None) -> int:
    from offrl.atomic import write_atomic
    from offrl.errors import UserError
    from offrl.report.figures import curves
    from offrl.report.tables import tables

    suite = load_suite(name) if name else None
    runs = load(runs_root, suite)
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


def stats(
    name: str | None, runs_root: Path | None, last_k: int, baseline: str | None, figure: Path | None
) -> int:
    from offrl.atomic import write_atomic
    from offrl.errors import UserError
    from offrl.report.comparison import block, comparisons
    from offrl.report.groups import by_reference, summarise
    from offrl.report.look import by_method
    from offrl.report.profiles import profiles

    suite = load_suite(name) if name else None
    root = runs_root or (ROOT / "results" / name if name else None)
    if root is None:
        raise UserError("stats wants a suite, --runs DIR or both")
    if runs_root is None and not root.is_dir():
        raise UserError(f"{root}: not published; name your runs by --runs DIR")
    k = suite.options.last_k if suite else last_k
    groups = summarise(load(root, suite), suite, k)
    found = comparisons(groups)
    if not found:
        raise UserError(f"{root}: no complete run with a normalised score")
    if figure is not None and len(found) > 1:
        raise UserError(f"--figure: one of {', '.join(found)} only; choose a suite")
    refused: list[str] = []
    for reference, comparison in found.items():
        try:
            text = block(comparison, k, baseline)
        except UserError as e:
            refused.append(f"{reference}: {e}")
            continue
        print(f"Scores: {reference}\n\n{text}", end="")
        if figure is not None:
            looks = by_method(by_reference(groups)[reference])
            svg = profiles(comparison, looks, reference)
            write_atomic(figure, svg.encode())
            print(f"\nPerformance profiles: {figure}")
    if len(refused) == len(found):
        raise UserError("; ".join(refused))
    for text in refused:  # the other scales are shown
        print(text, file=sys.stderr)
    return 0


def eop(runs_root: Path, name: str | None) -> int:
    from offrl.report.eop import table
    from offrl.report.groups import summarise

    suite = load_suite(name) if name else None
    print(table(summarise(load(runs_root, suite), suite)), end="")
    return 0


def load(root: Path, suite: "Suite | None") -> "Runs":
    """The runs below a folder, all or those of a suite."""
    from offrl.report.load import load_runs
    from offrl.report.members import group_of

    if suite is None:
        return load_runs(root)
    group = group_of(suite)
    return load_runs(root, only=lambda row: group(row) is not None)


def rebuild(check: bool) -> int:
    from benchmarks.timing.table import conversion, render
    from offrl.report import readme
    from offrl.report.policies import policies

    others = {"behaviour": policies(ROOT / "offrl" / "policies")}
    for name, text in (("speed", render), ("conversion", conversion)):
        record = ROOT / "results" / f"{name}.json"
        if record.exists():
            others[name] = text(json.loads(record.read_text(encoding="utf-8")))
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
    from offrl.report import experiments

    return experiments.load_suite(ROOT, name)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="tables | publish | stats | eop"
    )
    table = commands.add_parser("tables", help="Markdown tables, of the README or of --runs")
    table.add_argument("--check", action="store_true", help="write nothing, exit 1 on a change")
    table.add_argument("--runs", type=Path, metavar="DIR", help="print the table of these runs")
    table.add_argument("--suite", metavar="SUITE", help="with --runs: that suite's rows only")
    _last_k(table, "with --runs, without --suite")
    table.add_argument("--figure", type=Path, metavar="SVG", help="with --runs: learning curves")
    copy = commands.add_parser("publish", help="finished runs of a suite -> results/SUITE")
    copy.add_argument("suite", metavar="SUITE", help="a file in conf/experiment, without .yaml")
    copy.add_argument("--runs", type=Path, metavar="DIR", required=True)
    compare = commands.add_parser("stats", help="aggregates over the tasks of a suite")
    compare.add_argument("suite", metavar="SUITE", nargs="?", help="of results/, or of --runs")
    compare.add_argument("--runs", type=Path, metavar="DIR", help="these runs instead of results/")
    compare.add_argument("--baseline", metavar="METHOD", help="default: the first method")
    compare.add_argument("--figure", type=Path, metavar="SVG", help="performance profiles")
    _last_k(compare, "without a suite")
    budget = commands.add_parser("eop", help="expected online performance of a sweep")
    budget.add_argument("--runs", type=Path, metavar="DIR", required=True)
    budget.add_argument("--suite", metavar="SUITE", help="that suite's runs only")
    return parser


def _last_k(parser: argparse.ArgumentParser, when: str) -> None:
    text = f"{when}: evaluations in the second score column (default 5)"
    parser.add_argument("--last-k", type=_positive, default=5, metavar="K", help=text)


if __name__ == "__main__":
    sys.exit(main())
