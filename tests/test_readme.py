"""The commands that the README shows are commands that exist."""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from offrl.errors import UserError
from offrl.plan import plan

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = {"launcher=slurm": "submitit", "launcher=ray": "ray"}
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    return [line.split(" #")[0].strip() for line in lines if line.startswith(("python ", "make "))]


@pytest.mark.parametrize("command", [c for c in commands() if "train.py" in c])
def test_training_commands_plan(command: str) -> None:
    words = shlex.split(command)[2:]
    overrides = [w for w in words if w != "-m"]
    absent = [e for e, package in EXTRAS.items() if e in command and find_spec(package) is None]
    if absent:  # a launcher that is not installed says how it would be
        with pytest.raises(UserError, match="pip install"):
            plan(overrides, "-m" in words)
    elif "dataset=rlu" in command:  # data that nothing can fetch unasked: it says what makes it
        with pytest.raises(UserError, match=r"convert_rl_unplugged\.py game=Breakout run=1"):
            plan(overrides, "-m" in words)
    else:
        assert plan(overrides, "-m" in words).cells


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in command.removeprefix("make ").split():
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_scripts_that_are_named_answer_help() -> None:
    scripts = {shlex.split(c)[1] for c in commands() if c.startswith("python ")}
    assert {"benchmarks/train.py", "benchmarks/evaluate.py", "benchmarks/report.py"} <= scripts
    for script in sorted(scripts):
        done = subprocess.run(
            [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert Path(script).name in done.stdout


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 6
