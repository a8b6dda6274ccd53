"""benchmarks/speed.py: what is timed, how turns are taken, and what the table says of them."""

import json
import runpy
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import ROOT
from torch import Tensor

sys.path.insert(0, str(ROOT))

from benchmarks.timing import peers, plain, problem, speeds
from benchmarks.timing.clock import take_turns, window
from benchmarks.timing.floor import Product, products, replay
from benchmarks.timing.problem import Problem, Training, draws, random_data
from benchmarks.timing.table import render
from offrl.engine import Engine
from offrl.loop import Loop, Timer
from offrl.plan import choices
from offrl.rng import generator

N, WIDTH_1, WIDTH_2 = 16, 24, 8  # batch, hidden layers
DATA = random_data(2000, 1000)


def small(name: str) -> Problem:
    """An algorithm with narrow networks and a small batch, whatever these are called."""
    p = problem.problem(name, DATA, [f"batch_size={N}"])
    narrow = {k: (WIDTH_1, WIDTH_2) for k in vars(p.algo) if k.endswith("hidden")}
    algo: Any = type(p.algo)(**{**vars(p.algo), **narrow})
    return Problem(p.name, algo, p.transitions)


# What is timed


def test_every_algorithm_is_timed_once() -> None:
    modules = {type(problem.problem(n, DATA).algo).__module__ for n in choices("algo")}
    names = problem.names()
    assert {f"offrl.algos.{n}" for n in names} == modules
    assert len(names) == len(modules)


@pytest.mark.parametrize("name", ["bc", "td3_bc"])
def test_what_is_timed_is_the_training_loop_of_a_run(name: str) -> None:
    p = small(name)
    timed = Training(p, compile=False)
    timed(1040)
    timed(80)  # into the second block, and into another slice of noise
    run = Engine(p.algo, [p.algo.init(generator(0, "init"))])
    loop = Loop(p.algo, [0], p.transitions, torch.device("cpu"), Timer())
    loop.train(run, 0, 1120, lambda n: None)
    (ours,), (its,) = timed.engine.states, run.states
    assert torch.equal(ours.actor, its.actor)
    assert torch.equal(ours.actor_opt.v, its.actor_opt.v)


def test_a_plain_loop_learns_on_the_same_sizes() -> None:
    """Every algorithm that has a reference has its plain loop, and that one trains."""
    references = {f.stem for f in (plain.REFERENCES / "reference").glob("*.py")}
    for name in problem.names():
        work = plain.plain(small(name))
        assert (work is not None) == (name in references), name
        if work is not None:
            work(2)


# The floor


def test_the_floor_has_the_products_of_an_mlp_update() -> None:
    p = small("bc")
    draw = draws(p)
    state = p.algo.init(generator(0, "init"))
    found = products(p.algo, state, *next(draw))
    layers = [(17, WIDTH_1), (WIDTH_1, WIDTH_2), (WIDTH_2, 6)]
    forward = [2 * N * n * m for n, m in layers]
    # backward: a gradient for each weight, and one for the input of each layer but the first
    expected = sum(forward) + sum(forward) + sum(forward[1:])
    assert len(found) == 8
    assert sum(x.flops for x in found) == expected


def test_the_floor_counts_every_member_and_every_step_of_a_period() -> None:
    found = products(*_second_update(small("td3_bc")))
    actor = [2 * N * n * m for n, m in [(17, WIDTH_1), (WIDTH_1, WIDTH_2), (WIDTH_2, 6)]]
    critic = [2 * N * n * m for n, m in [(23, WIDTH_1), (WIDTH_1, WIDTH_2), (WIDTH_2, 1)]]
    critic_step = sum(actor) + 2 * sum(critic) + 2 * (2 * sum(critic) + sum(critic[1:]))
    # through one critic to its input, into the actor's weights
    actor_step = 2 * sum(actor) + sum(actor[1:]) + 2 * sum(critic)
    assert sum(x.flops for x in found) == 2 * critic_step + actor_step


def test_the_floor_counts_convolutions() -> None:
    found = products(*_second_update(small("discrete_bc")))
    convolutions = [20 * 20 * 32 * 256, 9 * 9 * 64 * 512, 7 * 7 * 64 * 576]
    layers = [3136 * WIDTH_1, WIDTH_1 * WIDTH_2, WIDTH_2 * 6]
    forward = sum(convolutions) + sum(layers)
    # a gradient for each weight and, but for the pixels, one for the input
    expected = 2 * N * (3 * forward - convolutions[0])
    assert sum(x.flops for x in found) == expected


def _second_update(p: Problem) -> tuple[Any, ...]:
    draw = draws(p)
    state, _ = p.algo.update(p.algo.init(generator(0, "init")), *next(draw))
    return p.algo, state, *next(draw)


@pytest.mark.parametrize("stack", [(), (3,)], ids=["one", "stack"])
def test_the_floor_computes_the_products(stack: tuple[int, ...]) -> None:
    left, right = torch.randn(*stack, 5, 7), torch.randn(*stack, 7, 4)
    product = Product(left, right)
    (whole,) = [call() for call in product.by_torch()]
    members = [call() for call in product.by_onednn()]
    assert isinstance(whole, Tensor)
    assert torch.equal(whole, left @ right)
    for member, expected in zip(members, whole if stack else [whole], strict=True):
        torch.testing.assert_close(member, expected)


def test_the_floor_repeats_whole_updates() -> None:
    calls: list[int] = []
    replay([lambda: calls.append(1), lambda: calls.append(2)], period=2)(6)
    assert calls == [1, 2] * 3


# Turns and windows


def test_competitors_take_turns() -> None:
    log: list[tuple[str, int]] = []
    works = {name: lambda n, name=name: log.append((name, n)) for name in "AB"}
    windows = take_turns(works, seconds=0, repeats=2, chunk=3)
    warm_up, turns = log[:2], log[2:]
    assert warm_up == [("A", 6), ("B", 6)]
    assert turns == [("A", 3), ("B", 3)] * 2
    assert [len(ws) for ws in windows.values()] == [2, 2]


def test_one_thread_is_timed_by_its_own_cpu_time() -> None:
    """A sleeping competitor is on the wall clock only."""
    seen = window(lambda n: (time.sleep(0.05), _compute(0.02)), seconds=0.05, chunk=1)
    assert seen.steps >= 2
    assert 0.05 <= seen.cpu_s < seen.wall_s - 0.05


def _compute(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


# The table


def record(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    machine = {"cpu": "Abacus", "cores": 2, "capability": "BEADS", "memory_gb": 1}
    versions = {"torch": "2.13.0", "python": "3.11", "d3rlpy": "2.8.1"}
    return {
        **{"date": "2026-11-22", "machine": machine, "versions": versions, "costs": None},
        "rows": rows,
    }


def row(threads: int, others: float = 0.0, **rates: Sequence[float]) -> dict[str, Any]:
    """A row whose windows say the given steps per second on the clock that counts."""

    def one(rate: float) -> dict[str, float]:
        right, wrong = ("cpu_s", "wall_s") if threads == 1 else ("wall_s", "cpu_s")
        return {"steps": 100, right: 100 / rate, wrong: 77.0, "others": others, "steal": 0.0}

    windows = {name: [one(r) for r in rs] for name, rs in rates.items()}
    shape = {"algorithm": "bc", "batch_size": 256, "mflop": 107.0}
    return {**shape, "threads": threads, "windows": windows}


def cells(text: str) -> dict[str, str]:
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines() if x[:1] == "|"]
    # columns of the same name get the name of what they follow
    names = [f"{lines[0][i - 1]}: ratio" if n == "ours ÷ it" else n for i, n in enumerate(lines[0])]
    return dict(zip(names, lines[2], strict=True))


def test_ratios_are_of_the_same_turn() -> None:
    """The machine slows down to a quarter; ratios of medians of other turns would tell nonsense."""
    found = cells(
        render(
            record(
                [
                    row(
                        1,
                        eager=[120, 60, 30],
                        compiled=[200, 100, 50],
                        plain=[100, 50, 25],
                        floor=[250, 125, 62.5],
                    )
                ]
            )
        )
    )
    assert found["plain loop: ratio"] == "2.00 (1.20)"
    assert found["of the floor"] == "80% (48%)"
    assert found["compiled"] == "100 ±75%"


def test_the_compiled_update_is_measured_by_the_floor_of_its_library() -> None:
    rates = {"eager": [50.0], "compiled": [150.0], "floor": [100.0], "floor_onednn": [200.0]}
    assert cells(render(record([row(1, **rates)])))["of the floor"] == "75% (50%)"


@pytest.mark.parametrize(
    ("threads", "others", "starred"), [(1, 1.0, False), (2, 1.0, True), (2, 0.05, False)]
)
def test_wall_clock_times_beside_other_programs_are_marked(
    threads: int, others: float, starred: bool
) -> None:
    text = render(
        record([row(threads, others, eager=[5, 5, 5], compiled=[9, 9, 9], floor=[9] * 3)])
    )
    assert ("not to be relied on" in text) == starred
    assert cells(text)["eager"].endswith("*") == starred
    assert f"Other programs kept {others:.1f} cores busy" in text


def test_what_was_not_measured_is_a_dash() -> None:
    rows = [
        row(1, eager=[5.0], compiled=[9.0], floor=[9.0], d3rlpy=[3.0]),
        row(1, eager=[5.0], compiled=[9.0], floor=[9.0]) | {"algorithm": "new"},
    ]
    lines = [x for x in render(record(rows)).splitlines() if x.startswith("| new")]
    assert [x.split("|")[6].strip() for x in lines] == ["–"]


def test_costs_are_told() -> None:
    numbers = {"n_rows": 1_000_000, "load_first_s": 2.1, "load_again_s": 0.5, "first_step_s": 5.0}
    numbers |= {"compile_cold_s": 70.0, "compile_again_s": 8.0, "evaluation_share": 0.02}
    costs = numbers | {"evaluation_s": 0.7, "two_processes": 1.9, "others": None}
    text = render(record([row(1, eager=[5.0], compiled=[9.0], floor=[9.0])]) | {"costs": costs})
    assert "1,000,000 transitions load in 2.1 s the first time, in 0.5 s from the cache" in text
    assert "Two processes side by side do 1.90 times" in text


def test_the_published_record_makes_the_table() -> None:
    published = json.loads((ROOT / "results" / "speed.json").read_text(encoding="utf-8"))
    text = render(published)
    assert all(f"\n| {r['algorithm']} " in text for r in published["rows"])


# The command


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
    with pytest.raises(SystemExit) as e:
        runpy.run_path(str(ROOT / "benchmarks" / "speed.py"), run_name="__main__")
    return int(e.value.code or 0)


def test_the_table_and_the_record_have_every_algorithm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(speeds, "random_data", lambda: DATA)
    monkeypatch.setattr(speeds, "problem", lambda name, data, overrides: small(name))
    # compiling takes minutes; it is timed like anything else
    monkeypatch.setattr(speeds, "Training", lambda p, compile: Training(p, compile=False))
    monkeypatch.setattr(peers, "installed", dict)
    path = tmp_path / "speed.json"
    arguments = ["--threads", "1", "--seconds", "0.02", "--repeats", "2", "--json", str(path)]
    assert command(monkeypatch, *arguments) == 0
    written = json.loads(path.read_text(encoding="utf-8"))
    names = problem.names()
    assert [r["algorithm"] for r in written["rows"]] == names
    assert all(
        {"eager", "compiled", "plain", "floor"} <= set(r["windows"]) for r in written["rows"]
    )
    assert capsys.readouterr().out == f"{render(written)}\n"
    assert written["machine"]["cores"] >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["algo=bc,nope"], "algo=nope: unknown choice; there are bc, "),
        (["algo=bc", "algo.nope=1"], "algo.nope"),
        (["--threads", "1,0"], "0: must be a whole number, at least 1"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(speeds, "random_data", lambda: DATA)
    assert command(monkeypatch, *arguments) != 0
    assert message in capsys.readouterr().err
