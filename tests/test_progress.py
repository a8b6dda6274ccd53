"""status=true says how each cell stands, and its exit code whether all are done."""

import os
import time
from pathlib import Path

import pytest
from harness import SMALL_NET, TINY, Train, complete, interrupted, manifest, tiny

from offrl.claim import claim
from offrl.progress import standing
from offrl.record import write_json
from offrl.run import run_dir_of


def test_every_state_of_a_suite(train: Train, hopper: Path) -> None:
    out = Path("o").resolve()
    cells = [tiny(hopper, out, f"seeds=[{i}]") for i in range(6)]
    for c in cells[:4]:
        complete(c)
    write_json(
        run_dir_of(cells[1]) / "manifest.json",
        manifest(run_dir_of(cells[1])) | {"status": "failed", "error": "first line\nlast line"},
    )
    write_json(
        run_dir_of(cells[2]) / "manifest.json",
        manifest(run_dir_of(cells[2])) | {"status": "diverged", "error": "q_mean is nan"},
    )
    (run_dir_of(cells[3]) / "manifest.json").write_text("{")
    killed = interrupted(cells[4], 7)
    args = (*TINY, SMALL_NET, "dataset=file", f"dataset.path={hopper}", "out=o", "status=true")
    shown = train("-m", *args, "seeds=" + ",".join(f"[{i}]" for i in range(6)))
    assert shown.code == 1
    lines = shown.out.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("done", "failed", "diverged", "damaged", "waiting", "waiting")
    ]
    assert [line.split()[1] for line in lines] == [c.dirname for c in cells]
    assert lines[1].endswith("last line")
    assert "first line" not in lines[1]
    assert "q_mean is nan" in lines[2]
    assert "manifest.json" in lines[3]
    assert "killed after step 20" in lines[4]
    assert shown.err == "1 done, 2 waiting, 1 failed, 1 diverged, 1 damaged\n"
    assert killed.exists()
    assert not run_dir_of(cells[5]).exists(), "looking changes nothing"

    assert train("-m", *args, "seeds=[0]").code == 0


def test_a_running_cell(hopper: Path, tmp_path: Path) -> None:
    c = tiny(hopper, tmp_path)
    run_dir = interrupted(c, 6)
    (run_dir / "claim.json").unlink()
    with claim(run_dir):
        (host,) = {standing(c).detail.split(",")[0]}
        assert host == os.uname().nodename
        write_json(
            run_dir / "manifest.json",
            manifest(run_dir) | {"step": 20, "wall_s": 600.0, "steps_per_s": 123.4},
        )
        state, detail = standing(c)
        assert state == "running"
        assert detail.partition(", ")[2] == "step 20 of 40, 123 steps/s, about 10 min left"
        before = time.time() - 300
        os.utime(run_dir / "manifest.json", (before, before))
        assert "about 5 min left" in standing(c).detail
        (run_dir / "manifest.json").unlink()
        assert "starting" in standing(c).detail
    assert standing(c) == ("waiting", "")


@pytest.mark.parametrize("action", ["status=true", "dry_run=true"])
def test_an_action_is_no_part_of_a_command(train: Train, hopper: Path, action: str) -> None:
    c = tiny(hopper, Path("o"), action)
    assert action not in c.again
    assert action not in c.command
    assert c.run_id == tiny(hopper, Path("o")).run_id
