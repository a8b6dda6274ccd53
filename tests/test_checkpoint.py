"""Checkpoints: every bit comes back, and no kill, flaw or full disk costs more than one of them."""

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch
from torch import Tensor

from offrl import checkpoint
from offrl.errors import UserError


class Opt(NamedTuple):
    m: Tensor
    t: Tensor


class State(NamedTuple):
    actor: Tensor
    actor_opt: Opt
    log: dict[str, Tensor]


def state(seed: int = 0) -> State:
    g = torch.Generator().manual_seed(seed)
    return State(
        torch.randn(3, 5, generator=g),
        Opt(torch.randn((), generator=g), torch.tensor(7 + seed, dtype=torch.int64)),
        {"flag": torch.tensor(True), "pixels": torch.arange(4, dtype=torch.uint8)},
    )


def tree(seed: int = 0) -> tuple[State, list[Tensor]]:
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1e-42])
    return state(seed), [odd, torch.zeros(0, 3), torch.arange(6.0).view(2, 3).T]


def leaves(t: Any) -> dict[str, Tensor]:
    return dict(checkpoint._named(t))


def same_bits(a: Tensor, b: Tensor) -> bool:
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
    )


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def flip_a_byte(path: Path, where: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)


def test_every_bit_and_the_structure_come_back(tmp_path: Path) -> None:
    saved = tree()
    path = checkpoint.save(tmp_path, 5000, saved)
    assert path.name == "checkpoint-000005000.safetensors"
    loaded = checkpoint.load(tmp_path, tree(seed=1))
    assert loaded is not None
    step, got = loaded
    assert step == 5000
    assert isinstance(got[0], State)
    assert isinstance(got[0].actor_opt, Opt)
    assert isinstance(got[1], list)
    a, b = leaves(saved), leaves(got)
    assert list(a) == list(b)
    assert "0.actor_opt.m" in a
    assert all(same_bits(a[k], b[k]) for k in a)
    assert not all(same_bits(a[k], x) for k, x in leaves(tree(seed=1)).items())


def test_a_single_tensor_is_a_tree(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, torch.tensor(2.5))
    assert checkpoint.load(tmp_path, torch.tensor(0.0)) == (1, torch.tensor(2.5))


def test_loaded_tensors_share_no_memory(tmp_path: Path) -> None:
    base = torch.arange(4.0)
    checkpoint.save(tmp_path, 1, (base, base, base[:2]))
    loaded = checkpoint.load(tmp_path, (base, base, base[:2]))
    assert loaded is not None
    storages = {x.untyped_storage().data_ptr() for x in loaded[1]}
    assert len(storages) == 3
    assert all(x.untyped_storage().nbytes() == x.nbytes for x in loaded[1])
    loaded[1][0].fill_(9)
    assert torch.equal(loaded[1][1], base)


def test_equal_states_give_equal_files_in_any_process(tmp_path: Path) -> None:
    metadata = {"b": "1", "a": "2", "c": "3"}
    checkpoint.save_tensors(tmp_path / "x", {"w": torch.ones(2), "v": torch.ones(3)}, metadata)
    code = (
        "import sys, torch; from pathlib import Path; from offrl.checkpoint import save_tensors\n"
        "save_tensors(Path(sys.argv[1]), {'v': torch.ones(3), 'w': torch.ones(2)},"
        " {'a': '2', 'c': '3', 'b': '1'})"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "y")], check=True)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert checkpoint.load_tensors(tmp_path / "y")[1] == metadata


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1000, 2000, 3000):
        checkpoint.save(tmp_path, step, state(step))
    assert names(tmp_path) == [f"checkpoint-{s:09d}.safetensors" for s in (2000, 3000)]
    loaded = checkpoint.load(tmp_path, state())
    assert loaded is not None
    assert loaded[0] == 3000


def test_none_where_nothing_was_saved(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, state()) is None
    assert checkpoint.load(tmp_path / "absent", state()) is None


@pytest.mark.parametrize("damage", ["last byte", "first byte", "truncated", "empty", "step"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    checkpoint.save(tmp_path, 1000, state(1))
    newest = checkpoint.save(tmp_path, 2000, state(2))
    data = newest.read_bytes()
    if damage == "last byte":
        flip_a_byte(newest)
    elif damage == "first byte":
        flip_a_byte(newest, 0)
    elif damage == "truncated":
        newest.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        assert data.count(b"2000") == 1
        newest.write_bytes(data.replace(b"2000", b"2001"))
    with pytest.warns(UserWarning, match="checkpoint-000002000.safetensors: damaged"):
        loaded = checkpoint.load(tmp_path, state())
    assert loaded is not None
    assert loaded[0] == 1000
    assert torch.equal(loaded[1].actor, state(1).actor)
    # and what was rejected does not take the place of a good one
    checkpoint.save(tmp_path, 1500, state(3))
    assert names(tmp_path) == [f"checkpoint-{s:09d}.safetensors" for s in (1000, 1500)]


def test_only_damaged_ones_mean_a_fresh_start(tmp_path: Path) -> None:
    flip_a_byte(checkpoint.save(tmp_path, 1000, state()))
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoint.load(tmp_path, state()) is None


def test_another_format_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint.save(tmp_path, 1000, state())
    monkeypatch.setattr(checkpoint, "FORMAT", "2")
    with pytest.raises(UserError, match=r"format 1, this version reads format 2.*remove") as e:
        checkpoint.load(tmp_path, state())
    assert str(path) in str(e.value)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (state()._replace(actor=torch.zeros(3, 6)), r"actor is torch.float32 \[3, 5\] there"),
        (state()._replace(actor=torch.zeros(3, 5).double()), "torch.float64"),
        (state()._replace(log={"flag": torch.tensor(True)}), "it has log.pixels"),
        (state()._replace(log={**state().log, "new": torch.ones(1)}), "it lacks log.new"),
    ],
)
def test_a_state_of_another_kind_is_refused(tmp_path: Path, like: State, message: str) -> None:
    path = checkpoint.save(tmp_path, 1000, state())
    with pytest.raises(UserError, match=message) as e:
        checkpoint.load(tmp_path, like)
    assert str(path) in str(e.value)


def test_what_is_no_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="float"):
        checkpoint.save(tmp_path, 1, (torch.ones(1), 0.5))
    with pytest.raises(ValueError, match="no dot"):
        checkpoint.save(tmp_path, 1, {"a.b": torch.ones(1)})


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".checkpoint-000000500.safetensors.0a1b2c3d.tmp"
    leftover.write_bytes(b"half")
    other = tmp_path / "manifest.json"
    other.write_text("{}")
    checkpoint.save(tmp_path, 1000, state())
    assert names(tmp_path) == ["checkpoint-000001000.safetensors", "manifest.json"]


FULL_DISK = """
import resource, sys, torch
from pathlib import Path
from offrl import checkpoint
from offrl.errors import UserError
folder = Path(sys.argv[1])
for step in (1000, 2000):
    checkpoint.save(folder, step, (torch.full((10,), float(step)),))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save(folder, 3000, (torch.zeros(1_000_000),))
except UserError as e:
    print(e)
"""


def test_a_full_disk_leaves_the_older_checkpoints(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert f"{tmp_path / 'checkpoint-000003000.safetensors'}: cannot be written:" in run.stdout
    assert "File too large" in run.stdout
    assert names(tmp_path) == [f"checkpoint-{s:09d}.safetensors" for s in (1000, 2000)]
    loaded = checkpoint.load(tmp_path, (torch.zeros(10),))
    assert loaded is not None
    assert loaded[0] == 2000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000  # only the other process's


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent/x.safetensors: cannot be written: No such file"):
        checkpoint.save_tensors(tmp_path / "absent" / "x.safetensors", {"w": torch.ones(1)}, {})


def test_a_missing_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x.safetensors: cannot be read"):
        checkpoint.load_tensors(tmp_path / "x.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"w": torch.ones(1)}, foreign)
    with pytest.raises(UserError, match=r"foreign.safetensors: damaged, or not a file of this"):
        checkpoint.load_tensors(foreign)
