"""Gradient steps per second, beside a plain loop, the installed peers and the floor.

speed.py                                     every algorithm, one thread and two
speed.py algo=td3_bc,bc --threads 1          these only
speed.py algo=cql 'algo.hidden=[256,256]'    with other sizes: ours and everybody's
speed.py --costs                             also start, compilation, evaluation, two processes
speed.py --costs --json results/speed.json   also write the record that the README shows
speed.py --convert 50000                     instead: RL Unplugged's shards, converted

The competitors of a row are timed in turns, A B C A B C.  With one thread, by the CPU time of this
process, which a shared machine changes little; with more by the wall clock, and the table says
whether other programs were at work.  Peers that are timed if installed: d3rlpy and tianshou.
"""

import argparse
import datetime
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a clone works uninstalled


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    from hydra.errors import HydraException

    from benchmarks.timing import table
    from offrl.errors import UserError

    try:
        record = measure(args)
    except (UserError, HydraException) as e:
        print(f"speed: {' '.join(str(e).split())}", file=sys.stderr)
        return 1
    print(table.render(record) if args.convert is None else table.conversion(record))
    if args.json is not None:
        from offrl.atomic import write_atomic

        write_atomic(args.json, (json.dumps(record, indent=1) + "\n").encode())
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The record: what results/speed.json holds."""
    from benchmarks.timing import conversion, costs, peers, problem, speeds
    from offrl.versions import git_state, versions

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    about = {
        "schema": 1,
        "date": datetime.date.today().isoformat(),
        "git": git_state(ROOT),
        "machine": machine(),
    }
    if args.convert is not None:
        return {
            **about,
            "versions": versions(),
            "convert": conversion.conversion(args.convert, say),
        }
    chosen = [o.removeprefix("algo=") for o in args.overrides if o.startswith("algo=")]
    names = chosen[-1].split(",") if chosen else problem.names()
    overrides = [o for o in args.overrides if not o.startswith("algo=")]
    how = overrides, args.threads, args.seconds, args.repeats
    return {
        **about,
        "versions": versions() | peers.installed(),
        "settings": {"overrides": overrides, "seconds": args.seconds, "repeats": args.repeats},
        "rows": speeds.speeds(names, *how, say),
        "costs": costs.costs(say) if args.costs else None,
    }


def machine() -> dict[str, str | int]:
    import torch

    cpu, memory = "unknown processor", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    info = Path("/proc/cpuinfo")
    for line in info.read_text(encoding="utf-8").splitlines() if info.exists() else ():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 0,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(memory / 2**30),
    }


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, at least 1")
    return int(text)


def _list(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="speed.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as of train.py; algo=NAME,NAME chooses"
    )
    parser.add_argument("--threads", type=_list, default=[1, 2], metavar="N,N", help="(1,2)")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of one turn (1)")
    parser.add_argument("--repeats", type=_positive, default=5, metavar="N", help="turns (5)")
    parser.add_argument("--costs", action="store_true", help="also what is beside the steps")
    parser.add_argument("--convert", type=_positive, metavar="N", help="transitions of a shard")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the record")
    return parser


if __name__ == "__main__":
    sys.exit(main())
