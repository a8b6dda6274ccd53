"""What a run was made with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from offrl import versions


def git(root: Path, *command: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")
    run = subprocess.run(
        ["git", "-C", str(root), *identity, *command], check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("1")
    (tmp_path / ".gitignore").write_text("runs/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_git_state_of_a_clean_and_a_changed_checkout(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    (checkout / "runs").mkdir()
    (checkout / "runs" / "x").write_text("ignored")
    assert versions.git_state(checkout) == {"commit": head, "dirty": False}
    (checkout / "b.py").write_text("untracked")
    assert versions.git_state(checkout) == {"commit": head, "dirty": True}
    (checkout / "b.py").unlink()
    (checkout / "a.py").write_text("2")
    assert versions.git_state(checkout) == {"commit": head, "dirty": True}


def test_git_state_ignores_a_hook_of_another_checkout(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(checkout / "absent"))
    assert versions.git_state(checkout)["dirty"] is False


def test_git_state_is_null_elsewhere(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nothing = {"commit": None, "dirty": None}
    inside = checkout / "unpacked"  # somebody else's checkout around our release
    inside.mkdir()
    assert versions.git_state(inside) == nothing
    assert versions.git_state(tmp_path_factory.mktemp("plain")) == nothing
    assert versions.git_state(checkout / "absent") == nothing


def test_git_state_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert versions.git_state(checkout) == {"commit": None, "dirty": None}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processors_of_two_makers_are_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one instruction set, but the libraries of products choose their code by the maker, too."""
    now = versions.numerics("cpu", 1, False)
    monkeypatch.setattr(versions, "vendor", lambda: "Somebody")
    (difference,) = versions.mismatch(now, versions.numerics("cpu", 1, False))
    assert difference.startswith("hardware: ")
    assert "-> Somebody " in difference


def test_numerics_name_what_moves_bits() -> None:
    now = versions.numerics("cpu", 1, False)
    assert json.loads(json.dumps(now)) == now
    assert now["torch"] == torch.__version__
    assert now["numpy"] == np.__version__
    assert str(now["hardware"]).endswith(torch.backends.cpu.get_cpu_capability())
    assert set(now) == {
        *("device", "hardware", "compile", "threads"),
        *("torch", "numpy", "gymnasium", "mujoco"),
    }
    assert versions.mismatch(now, versions.numerics("cpu", 1, False)) == []


def test_mismatch_names_every_difference() -> None:
    old = versions.numerics("cpu", 1, False)
    new = versions.numerics("cpu", 2, True) | {"extra": "1"}
    assert versions.mismatch(old, new) == [
        "compile: False -> True",
        "extra: absent -> 1",
        "threads: 1 -> 2",
    ]
    assert versions.mismatch(new, old)[1] == "extra: 1 -> absent"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_numerics_name_the_gpu() -> None:
    assert versions.numerics("cuda", 1, False)["hardware"] == torch.cuda.get_device_name()


def test_versions() -> None:
    found = versions.versions()
    assert found["torch"] == torch.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions._version("no-such-package") == "absent"


def test_the_code_is_what_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_PACKAGE", tmp_path)
    found = set()
    for name, text in (("loop.py", "1"), ("loop.py", "2"), ("algos/bc.py", "1"), ("bc.py", "1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        found.add(versions.code.__wrapped__())
    assert len(found) == 4
    for name in ("report/rows.py", "loggers/csv.py", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
        assert versions.code.__wrapped__() in found


def test_peak_memory_grows_with_what_is_held() -> None:
    code = (
        "from offrl.versions import peak_memory_mb, reset_peak_memory; before = peak_memory_mb()\n"
        "x = bytearray(b'1') * (200 * 2**20); print(before, peak_memory_mb() - before)\n"
        "del x; reset_peak_memory(); print(peak_memory_mb() - before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, grown, left = map(float, run.stdout.split())
    assert 50 < before < 5000
    assert 150 < grown < 300
    if sys.platform == "linux":
        assert left < 50
