"""What stands around Hydra's launch: all checks before it, and what is left to do after it."""

import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.utils import get_args_parser

from offrl import preempt, slurm
from offrl.errors import UserError
from offrl.pipe import until_closed

if TYPE_CHECKING:
    from offrl.cell import Cell
    from offrl.search import Search

ONLY = "OFFRL_ONLY"  # run ids that a launch is for; tells the workers, which inherit it
POLL_S = 2.0  # between looks at cells that another launcher runs
# what may yet be complete: "failed", "diverged" and "damaged" would only be so again
UNFINISHED = ("none", "running", "interrupted")


def main(launch: Callable[[], object], argv: Sequence[str]) -> int:
    """Runs what the command line asks for; the exit code is 0 only if every cell is complete.

    `launch` is the Hydra application.  What a user can mend is one line on stderr.
    """
    args = get_args_parser().parse_args(argv)
    if args.help or args.hydra_help or args.cfg or args.info or args.shell_completion:
        launch()  # prints, and exits by itself where it has to
        return 0
    try:
        with preempt.passing_on():
            return _command(launch, args)
    except UserError as e:
        print(f"offrl: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("offrl: interrupted; the same command goes on", file=sys.stderr)
        return 130


def _command(launch: Callable[[], object], args: Namespace) -> int:
    if args.config_dir or args.config_path or args.config_name:
        raise UserError("own config folders are given by 'hydra.searchpath=[DIR]'")
    from offrl.mirror import require_logger  # these load torch: not for --help
    from offrl.plan import plan
    from offrl.progress import report

    work = plan(args.overrides, args.multirun)
    settings = work.cells[0].settings
    if settings.dry_run or settings.status:
        with until_closed():
            return _dry_run(work.cells) if settings.dry_run else report(work.cells)
    if settings.prefetch:
        return 0 if _open_data(work.cells) else 1
    require_logger(work.cells[0].logger)
    if work.search is not None:
        done = _search(launch, work.cells[0], work.search)
    elif work.sweep:
        launched = dict(zip(args.overrides, work.overrides, strict=True))
        sys.argv[1:] = [launched.get(a, a) for a in sys.argv[1:]]  # Hydra reads them there
        done = _sweep(launch, work.cells)
    else:
        done = _single(launch, work.cells[0])
    if done and preempt.asked():
        print("offrl: asked to end; the same command goes on", file=sys.stderr)
        return preempt.REQUEUE
    return done


def _single(launch: Callable[[], object], cell: "Cell") -> int:
    from offrl.manifest import done
    from offrl.run import run_dir_of

    launch()
    return 0 if done(run_dir_of(cell), cell) else 1


def _search(launch: Callable[[], object], base: "Cell", search: "Search") -> int:
    from offrl.run import require_out
    from offrl.search import FOLDER, conclude

    require_out(base)
    if not _open_data([base]):
        return 1
    folder = search.folder(base)
    folder.mkdir(parents=True, exist_ok=True)
    ended = _launch(launch, {FOLDER: str(folder)})
    concluded = conclude(base, search)  # also where Optuna gives up because all have failed
    return concluded if ended and not preempt.asked() else 1


def _dry_run(cells: "Sequence[Cell]") -> int:
    from offrl.estimate import describe, time_left
    from offrl.manifest import ROOT
    from offrl.progress import standing

    for cell in cells:
        print(f"{standing(cell).state:8} {cell.dirname}  {cell.command}")
    print(describe(time_left(cells, ROOT / "results"), len(cells)), file=sys.stderr)
    return 0


def _sweep(launch: Callable[[], object], cells: "Sequence[Cell]") -> int:
    """Launches what is not complete, and once more what was killed; waits for what others run."""
    from offrl.manifest import finished
    from offrl.run import require_out, run_dir_of, status

    todo = [c for c in cells if not finished(run_dir_of(c), c)]
    print(f"{len(cells)} cells, {len(cells) - len(todo)} complete already", file=sys.stderr)
    for cell in todo:
        require_out(cell)
    _open_data(todo)
    while todo and not _launch(launch, _only(todo)):
        if preempt.asked() or slurm.used():
            break
        unstarted = [c for c in todo if _left(c) and not _abandoned(c)]
        if len(unstarted) == len(todo):
            break
        todo = unstarted
    begun = cells
    if slurm.used():  # one job that is cancelled ends Hydra's wait for the others
        slurm.wait(run_dir_of(cells[0]).parent / ".hydra")
        begun = [c for c in cells if status(c) != "none"]  # not cancelled before it began
    if not preempt.asked():
        _finish_left(launch, begun)
    return _summary(cells)


def _only(cells: "Iterable[Cell]") -> dict[str, str]:
    return {ONLY: ",".join(c.run_id for c in cells)}


def _launch(launch: Callable[[], object], workers: Mapping[str, str]) -> bool:
    """One Hydra launch; `workers` is told to them.  False if a dying worker has ended it."""
    try:
        # full errors: raised here, instead of a traceback and an exit
        with _environment(**workers, HYDRA_FULL_ERROR="1", PYTHONPATH=_search_path()):
            launch()
        return True
    except (Exception, SystemExit) as e:
        print(f"{type(e).__name__}: {str(e).partition('. ')[0]}", file=sys.stderr)
        return False
    finally:
        _end_workers()


def _search_path() -> str:
    """A clone that is not installed is found by the jobs of SLURM and Ray, too."""
    root = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {k: os.environ.get(k) for k in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


def _end_workers() -> None:
    """The next ones must see another ONLY; and after a crash some of joblib's are still dying."""
    if "ray" in sys.modules:
        import ray

        ray.shutdown()
    if "joblib" in sys.modules:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True, kill_workers=True)


def skipped(cell: "Cell") -> bool:
    """Whether the current launch is for other cells."""
    only = os.environ.get(ONLY, "")  # empty where a launcher hands it on although it is not set
    return bool(only) and cell.run_id not in only.split(",")


def _open_data(cells: "Iterable[Cell]") -> bool:
    """Fetches or makes the data before the workers need it, each once; whether all of it is there.

    What fails here fails again in its cell, and is reported there.
    """
    sources = {(c.source, c.env): c for c in cells}
    failed = False
    for (source, env), cell in sources.items():
        try:
            source.open(env)
        except Exception as e:
            failed = True
            print(f"{cell.dirname}: {e}", file=sys.stderr)
    return not failed


def _owned(cell: "Cell") -> bool:
    from offrl.claim import owned
    from offrl.run import run_dir_of

    return owned(run_dir_of(cell))


def _abandoned(cell: "Cell") -> bool:
    """Whether the process that ran the cell was killed: its claim is still there."""
    from offrl.claim import holder
    from offrl.run import run_dir_of

    return holder(run_dir_of(cell)) is not None and _left(cell)


def _left(cell: "Cell") -> bool:
    """Whether nobody is at a cell that is not finished.  What SLURM cancelled is left alone."""
    from offrl.run import status

    if _owned(cell):  # first: it may just end
        return False
    stands = status(cell)
    return stands in UNFINISHED and not (stands == "interrupted" and slurm.used())


def _finish_left(launch: Callable[[], object], cells: "Sequence[Cell]") -> None:
    """Runs, one by one and once more, what was killed here or left by another launcher.

    One by one, because a worker that dies takes the others down with it.  Returns when nobody is at
    work any more.
    """
    from offrl.run import status

    tried: set[str] = set()
    told = False
    while not preempt.asked():
        left = [c for c in cells if c.run_id not in tried and _left(c)]
        if left:
            tried.add(left[0].run_id)
            print(f"{left[0].dirname}: was not finished; once more", file=sys.stderr)
            _launch(launch, _only(left[:1]))
            continue
        others = [c for c in cells if status(c) in UNFINISHED and _owned(c)]
        if not others:
            return
        if not told:
            print(f"waiting for {len(others)} cells that another process runs", file=sys.stderr)
            told = True
        time.sleep(POLL_S)


def _summary(cells: "Sequence[Cell]") -> int:
    from offrl.manifest import done, state
    from offrl.run import run_dir_of

    states = [(c, *state(run_dir_of(c))) for c in cells]
    bad = [(c, status, error) for c, status, error in states if not done(run_dir_of(c), c)]
    print(f"{len(cells) - len(bad)} of {len(cells)} cells complete", file=sys.stderr)
    said = None
    for cell, status, error in bad:
        why = _why(cell, error)
        stands = {"none": "not begun", "complete": "on other data"}.get(status, status)
        print(f"  {cell.dirname}: {stands}: {'as above' if why == said else why}", file=sys.stderr)
        said = why
        print(f"    again: {cell.again}", file=sys.stderr)
    return 1 if bad else 0


def _why(cell: "Cell", error: str | None) -> str:
    if error:
        return error.partition("\n")[0]
    if _abandoned(cell):
        return "its process was killed"
    if preempt.asked():
        return "asked to end"
    return f"see {'the logs below .hydra/.submitit' if slurm.used() else 'above'}"
