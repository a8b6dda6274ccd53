"""What stands around Hydra's launch: all checks before it, and what is left to do after it."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from hydra._internal.utils import get_args_parser

from offrl.errors import UserError

if TYPE_CHECKING:
    from offrl.cell import Cell

ONLY = "OFFRL_ONLY"  # run ids that a launch is for; tells the workers, which inherit it
POLL_S = 2.0  # between looks at cells that another launcher runs


def main(launch: Callable[[], object], argv: Sequence[str]) -> int:
    """Runs what the command line asks for; the exit code is 0 only if every cell is complete.

    `launch` is the Hydra application.  What a user can mend is one line on stderr.
    """
    args = get_args_parser().parse_args(argv)
    if args.help or args.hydra_help or args.cfg or args.info or args.shell_completion:
        launch()  # prints, and exits by itself where it has to
        return 0
    try:
        from offrl.suite import plan  # loads torch: not for --help

        work = plan(args.overrides, args.multirun)
        if work.cells[0].settings.dry_run:
            return _dry_run(work.cells)
        return _sweep(launch, work.cells) if work.sweep else _single(launch, work.cells[0])
    except UserError as e:
        print(f"offrl: {e}", file=sys.stderr)
        return 1


def _single(launch: Callable[[], object], cell: "Cell") -> int:
    from offrl.run import status

    launch()
    return 0 if status(cell) == "complete" else 1


def _dry_run(cells: "Sequence[Cell]") -> int:
    from offrl.run import status

    for cell in cells:
        print(f"{status(cell):9} {cell.dirname}  {cell.command}")
    return 0


def _sweep(launch: Callable[[], object], cells: "Sequence[Cell]") -> int:
    """Launches what is not complete, retries what was killed, waits for what others run."""
    from offrl.run import status

    todo = [c for c in cells if status(c) != "complete"]
    print(f"{len(cells)} cells, {len(cells) - len(todo)} complete already", file=sys.stderr)
    _open_data(todo)
    killed: list[Cell] = []
    while todo:
        crashed = not _launch(launch, todo)
        dead = [c for c in todo if status(c) == "running" and not _owned(c)]
        unstarted = [c for c in todo if status(c) == "none" and not _owned(c)]
        killed += dead
        if not crashed or len(unstarted) == len(todo):
            break
        todo = unstarted
    for cell in killed:  # one by one: a worker that dies takes the others down with it
        print(f"{cell.dirname}: its process was killed; once more", file=sys.stderr)
        _launch(launch, [cell])
    _wait_for_others(launch, cells)
    return _summary(cells)


def _launch(launch: Callable[[], object], cells: "Iterable[Cell]") -> bool:
    """One Hydra launch that does only `cells`.  False if it was ended by a dying worker."""
    os.environ[ONLY] = ",".join(c.run_id for c in cells)
    try:
        launch()
    except SystemExit as e:
        return not e.code
    finally:
        del os.environ[ONLY]
    return True


def skipped(cell: "Cell") -> bool:
    """Whether the current launch is for other cells."""
    only = os.environ.get(ONLY)
    return only is not None and cell.run_id not in only.split(",")


def _open_data(cells: "Iterable[Cell]") -> None:
    """Fetches or makes the data before the workers need it, each once.

    What fails here fails again in its cell, and is reported there.
    """
    sources = {(c.source, c.robot): c for c in cells}
    for (source, robot), cell in sources.items():
        try:
            source.open(robot)
        except UserError as e:
            print(f"{cell.dirname}: {e}", file=sys.stderr)


def _owned(cell: "Cell") -> bool:
    from offrl.claim import owned
    from offrl.run import run_dir_of

    return owned(run_dir_of(cell))


def _wait_for_others(launch: Callable[[], object], cells: "Sequence[Cell]") -> None:
    """Until no cell is claimed by another launcher; takes over what that one leaves unfinished."""
    from offrl.run import status

    waiting = [c for c in cells if status(c) in ("running", "none") and _owned(c)]
    if waiting:
        print(f"waiting for {len(waiting)} cells that another launcher runs", file=sys.stderr)
    while waiting:
        time.sleep(POLL_S)
        left = [c for c in waiting if status(c) in ("running", "none")]
        free = [c for c in left if not _owned(c)]
        if free:
            _launch(launch, free)
        waiting = [c for c in left if c not in free]


def _summary(cells: "Sequence[Cell]") -> int:
    from offrl.record import read_json
    from offrl.run import MANIFEST, run_dir_of, status

    bad = [c for c in cells if status(c) != "complete"]
    print(f"{len(cells) - len(bad)} of {len(cells)} cells complete", file=sys.stderr)
    for cell in bad:
        path = run_dir_of(cell) / MANIFEST
        why = read_json(path).get("error") if path.exists() else None
        print(f"  {cell.dirname}: {status(cell)}: {why or 'see above'}", file=sys.stderr)
        print(f"    again: {cell.command} out={cell.settings.out}", file=sys.stderr)
    return 1 if bad else 0
