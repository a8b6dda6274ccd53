"""How the end-to-end tests make runs, kill them, and look at what is left."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from offrl.cell import Cell
from offrl.envs.vector import env_spec, make_env
from offrl.plan import plan
from offrl.record import read_json
from offrl.run import Outcome, run, run_dir_of

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "benchmarks" / "train.py"
RESULTS = ("eval.csv", "train.csv", "policy.safetensors")

# a run of a fraction of a second
TINY = ("algo=bc", "n_updates=40", "eval_every=20", "eval_episodes=2", "batch_size=8")
SMALL_NET = "algo.hidden=[16,16]"


class Finished(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def run_dir(self) -> Path:
        """The last line on stdout."""
        return Path(self.out.splitlines()[-1])


Train = Callable[..., Finished]  # the fixture of conftest.py


def write_robot(
    path: Path, env_id: str = "Hopper-v4", n: int = 600, seed: int = 0, scale: float = 0.9
) -> Path:
    """Random actions, up to `scale`, in episodes of 40 rows, however they end; every third one by
    a time-out.
    """
    g = np.random.default_rng(seed)
    env = make_env(env_id)
    rows: dict[str, list[Any]] = {"observations": [], "next_observations": [], "rewards": []}
    actions = g.uniform(-scale, scale, (n, env_spec(env_id).action_dim)).astype(np.float32)
    for i, action in enumerate(actions):
        if i % 40 == 0:
            obs, _ = env.reset(seed=int(g.integers(1 << 31)))
        rows["observations"].append(obs)
        obs, reward, *_ = env.unwrapped.step(action)
        rows["next_observations"].append(obs)
        rows["rewards"].append(reward)
    env.close()
    ends = np.arange(1, n + 1) % 40 == 0
    timeouts = np.arange(1, n + 1) % 120 == 0
    with h5py.File(path, "w") as f:
        for key, column in rows.items():
            f[key] = np.array(column, np.float32)
        f["actions"] = actions
        f["terminals"] = ends & ~timeouts
        f["timeouts"] = timeouts
    return path


def cell(*overrides: str) -> Cell:
    (only,) = plan(overrides).cells
    return only


def tiny(data: Path, out: Path, *overrides: str) -> Cell:
    """A bc cell on a file; later overrides win."""
    return cell(
        *TINY, SMALL_NET, "dataset=file", f"dataset.path='{data}'", f"out='{out}'", *overrides
    )


def complete(c: Cell) -> Path:
    """Runs a cell in this process, to its end."""
    outcome = run(c)
    assert outcome == Outcome("complete", run_dir_of(c)), outcome.message
    return outcome.run_dir


def results(run_dir: Path) -> dict[str, bytes]:
    return {name: (run_dir / name).read_bytes() for name in RESULTS}


def manifest(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(run_dir / "manifest.json")
    return content


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and what is in it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def litter(run_dir: Path) -> list[str]:
    """What a complete run should not leave; private claim files may stay for two minutes."""
    known = {*RESULTS, "manifest.json"}
    return [
        p.name for p in run_dir.iterdir() if p.name not in known and ".claim.json." not in p.name
    ]


def killed_at_write(work: Callable[[], object], n: int) -> bool:
    """Does `work` in a child that kills itself at its n-th atomic write: before the rename if n is
    even, after it if n is odd.  False if there was no such write and the work was done.
    """
    pid = os.fork()
    if not pid:
        code = 1
        signal.alarm(300)  # a child that waits for a thread of its parent's waits for ever
        try:
            _die_at(n)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _die_at(n: int) -> None:
    replace, count = os.replace, 0

    def lethal(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        if count == n and n % 2 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = lethal  # in the child alone


def complete_in_child(c: Cell) -> Path:
    """For several threads: a process that has started some cannot be forked safely any more."""
    assert not killed_at_write(lambda: complete(c), 0)
    return run_dir_of(c)


def interrupted(c: Cell, n: int) -> Path:
    """A run that was killed at its n-th write: 1 is the manifest, and then an evaluation writes
    eval.csv, train.csv, policy, checkpoint and manifest: 2 to 6, 7 to 11, ...
    """
    assert killed_at_write(lambda: complete(c), n)
    return run_dir_of(c)


def spawn(*args: str, cwd: Path, new_group: bool = False, **env: str) -> "subprocess.Popen[str]":
    """The real command in a process of its own, or in a group of its own with its workers."""
    return subprocess.Popen(
        [sys.executable, str(TRAIN), *args],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=new_group,
    )


def wait_until(what: Callable[[], object], process: "subprocess.Popen[str] | None" = None) -> None:
    """Until `what` is true, while the process lives."""
    deadline = time.monotonic() + 120
    while not what():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
