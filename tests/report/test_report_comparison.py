import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pipe_tables import rows
from synthetic_runs import FakeCell, config, write_run

from offrl.errors import UserError
from offrl.report.comparison import Comparison, block, comparisons
from offrl.report.groups import summarise
from offrl.report.load import load_runs
from offrl.report.look import by_method
from offrl.report.methods import methods
from offrl.report.profiles import profiles
from offrl.report.section import section
from offrl.report.suite import Suite, report_options

TASKS = [("hopper", "medium"), ("hopper", "expert"), ("walker2d", "medium")]
LEVEL = {"bc": 10.0, "td3_bc": 40.0}


def score(algo: str, task: int, seed: int, step: int) -> float:
    """Per method 3 tasks x 3 seeds; one evaluation, at 2000, is far better than the last."""
    return LEVEL[algo] + 10 * task + seed + (50 if step == 2000 else 0)


def suite_of(**changes: object) -> Suite:
    cells = [
        FakeCell(config(algo, [seed], env=env, quality=quality, **changes))
        for algo in LEVEL
        for env, quality in TASKS
        for seed in range(3)
    ]
    return Suite("demo", cells, report_options(last_k=2, title="T"))


def write(root: Path, suite: Suite, **lost: str) -> None:
    """`lost`: algo_task_seed -> status of a run that is not complete."""
    for c in suite.cells:
        a, seed = c.config["algo"]["name"], c.config["seeds"][0]
        task = TASKS.index((c.config["env"]["name"], c.config["dataset"]["quality"]))
        status = lost.get(f"{a}_{task}_{seed}", "complete")
        assert isinstance(c, FakeCell)
        write_run(
            root,
            c,
            status,
            value=lambda s, t, e, a=a, task=task: 20 + 20 * score(a, task, s, t),
        )


def compared(root: Path, suite: Suite) -> Comparison:
    (found,) = comparisons(summarise(load_runs(root), suite, 2)).values()
    return found


def test_the_block_of_a_complete_suite(tmp_path: Path) -> None:
    suite = suite_of()
    write(tmp_path, suite)
    text = block(compared(tmp_path, suite), 2)
    bc, td3_bc = rows(text)
    # of 10 11 12 20 21 22 30 31 32, without the lowest and highest two: 12 20 21 22 30
    assert bc["IQM [95%]"].startswith(f"{(12 + 20 + 21 + 22 + 30) / 5:.1f} [")
    assert bc["IQM, mean of last 2"].startswith(f"{(12 + 20 + 21 + 22 + 30) / 5:.1f} [")
    assert bc["IQM, best*"].startswith(f"{(12 + 20 + 21 + 22 + 30) / 5 + 50:.1f} [")
    assert bc["P(better than bc) [95%]"] == "–"
    assert td3_bc["P(better than bc) [95%]"] == "1.00 [1.00, 1.00]"
    for said in ("3 of 3 tasks, 3 seeds each", "stratified-bootstrap", "needs online access"):
        assert said in text
    assert "Left out" not in text


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    suite = suite_of()
    one = replace(suite, cells=[c for c in suite.cells if c.config["seeds"] == [1]])
    write(tmp_path, one)
    found = compared(tmp_path, one)
    text = block(found, 2)
    bc, td3_bc = rows(text)
    assert bc["IQM"] == bc["IQM, mean of last 2"] == "21.0"
    assert td3_bc["P(better than bc)"] == "1.00"
    assert "3 of 3 tasks, 1 seed each" in text
    assert "one seed has no interval" in text
    assert "95%" not in text
    looks = by_method(summarise(load_runs(tmp_path), one, 2))
    assert bands(profiles(found, looks, "offrl-v5")) == 0
    write(tmp_path / "three", suite)
    assert bands(profiles(compared(tmp_path / "three", suite), looks, "offrl-v5")) == 2


def bands(svg: str) -> int:
    """How many areas a figure has."""
    groups = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g")
    return sum("FillBetween" in g.get("id", "") or "Poly" in g.get("id", "") for g in groups)


def test_a_baseline_may_be_chosen_among_the_methods(tmp_path: Path) -> None:
    suite = suite_of()
    write(tmp_path, suite)
    found = compared(tmp_path, suite)
    bc, td3_bc = rows(block(found, 2, "td3_bc"))
    assert bc["P(better than td3_bc) [95%]"] == "0.00 [0.00, 0.00]"
    assert td3_bc["P(better than td3_bc) [95%]"] == "–"
    with pytest.raises(UserError, match=r"'cql': no method here; there are bc; td3_bc"):
        block(found, 2, "cql")


def test_an_incomplete_task_is_left_out_for_all_and_named(tmp_path: Path) -> None:
    suite = suite_of()
    write(tmp_path, suite, td3_bc_1_2="diverged")
    found = compared(tmp_path, suite)
    assert found.tasks == ("hopper-offrl/medium", "walker2d-offrl/medium")
    assert {s.last.shape for s in found.scores.values()} == {(3, 2)}
    assert found.scores["bc"].last.tolist() == [[10, 30], [11, 31], [12, 32]]
    text = block(found, 2)
    assert "2 of 3 tasks (hopper-offrl/medium, walker2d-offrl/medium)" in text
    assert "Left out, which flatters a method that diverged there: hopper-offrl/expert" in text
    assert "td3_bc 2/3 (1 diverged)" in text


def test_tasks_that_nobody_ran_are_counted_and_not_listed(tmp_path: Path) -> None:
    suite = suite_of()
    write(
        tmp_path, Suite("x", [c for c in suite.cells if c.config["dataset"]["quality"] == "medium"])
    )
    text = block(compared(tmp_path, suite), 2)
    assert "(hopper-offrl/medium, walker2d-offrl/medium; 1 were not run)" in text
    assert "Left out" not in text


@pytest.mark.parametrize("seeds", [(), (0,), (0, 1)])
def test_a_method_without_all_seeds_anywhere_is_named_and_hinders_no_comparison(
    tmp_path: Path, seeds: tuple[int, ...]
) -> None:
    suite = suite_of()
    write(tmp_path, suite)
    cql = [
        FakeCell(config("cql", [seed], env=env, quality=quality))
        for env, quality in TASKS
        for seed in range(3)
    ]
    for c in cql:
        if c.config["seeds"][0] in seeds:
            write_run(tmp_path, c)
    found = compared(tmp_path, replace(suite, cells=[*suite.cells, *cql]))
    assert list(found.scores) == ["bc", "td3_bc"]
    assert len(found.tasks) == 3
    text = block(found, 2)
    assert [r["method"] for r in rows(text)] == ["bc", "td3_bc"]
    assert "Not compared, for want of seeds: cql." in text
    assert "Left out" not in text
    assert "Not compared" not in block(compared(tmp_path, suite), 2)


def test_a_method_that_diverged_everywhere_is_no_such_one(tmp_path: Path) -> None:
    suite = suite_of()
    write(tmp_path, suite, td3_bc_0_0="diverged", td3_bc_1_0="diverged", td3_bc_2_0="diverged")
    found = compared(tmp_path, suite)
    assert found.waiting == ()
    assert set(found.left_out.values()) == {"td3_bc 2/3 (1 diverged)"}


def test_one_complete_task_is_no_suite(tmp_path: Path) -> None:
    suite = suite_of()
    write(tmp_path, suite, td3_bc_1_2="diverged", bc_0_0="running")
    with pytest.raises(UserError, match=r"nothing to compare.*bc 2/3 \(1 running\)"):
        block(compared(tmp_path, suite), 2)


def test_nothing_is_complete(tmp_path: Path) -> None:
    suite = suite_of()
    write(tmp_path, Suite("demo", suite.cells[:2]))
    with pytest.raises(UserError, match=r"; bc: waits for seeds; td3_bc: waits"):
        block(compared(tmp_path, suite), 2)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("n_updates", 9000, "different gradient steps"),
        ("buffer_size", None, "different buffer_size"),
        ("eval_every", 500, "different eval_every"),
        ("eval_episodes", 3, "different eval_episodes"),
    ],
)
def test_different_budgets_are_not_compared(
    tmp_path: Path, key: str, value: int | None, why: str
) -> None:
    odd = ("td3_bc", "hopper")
    cells = [
        FakeCell(config(algo, env=env, **({key: value} if (algo, env) == odd else {})))
        for algo in LEVEL
        for env in ("hopper", "walker2d", "halfcheetah")
    ]
    for c in cells:
        write_run(tmp_path, c)
    groups = summarise(load_runs(tmp_path), Suite("demo", cells), 2)
    (found,) = comparisons(groups).values()
    assert found.left_out == {"hopper-offrl/medium": why}
    bc, td3_bc = (
        {g.about.env: g for g in groups if g.about.algo == algo} for algo in ("bc", "td3_bc")
    )
    assert bc["hopper"].minus(td3_bc["hopper"]) == (None, None)
    assert None not in bc["walker2d"].minus(td3_bc["walker2d"])


def test_buffer_sizes_are_compared_where_every_name_says_its_own(tmp_path: Path) -> None:
    sizes = {"bc": (100, 1000), "td3_bc": (1000,)}
    for algo, of_algo in sizes.items():
        for env in ("hopper", "walker2d"):
            for size in of_algo:
                write_run(tmp_path / algo, FakeCell(config(algo, env=env, buffer_size=size)))
    (found,) = comparisons(summarise(load_runs(tmp_path / "bc"), None)).values()
    assert list(found.scores) == ["bc, buffer_size=100", "bc, buffer_size=1000"]
    (found,) = comparisons(summarise(load_runs(tmp_path), None)).values()
    assert set(found.left_out.values()) == {"different buffer_size"}


def test_settings_of_one_algorithm_are_methods(tmp_path: Path) -> None:
    cells = [
        FakeCell(config("bc", [s], env=env, norm_obs=norm))
        for env in ("hopper", "walker2d")
        for norm in (True, False)
        for s in range(2)
    ]
    for c in cells:
        write_run(tmp_path, c)
    found = compared(tmp_path, Suite("demo", cells))
    assert list(found.scores) == ["bc, norm_obs=true", "bc, norm_obs=false"]


@pytest.mark.parametrize(
    ("tried", "expected"),
    [  # (alpha, words, gamma) of each setting
        (
            [(1.0, ["algo.alpha=1"], 0.9), (2.0, ["algo.alpha=2"], 0.9)],
            [r"algo\.alpha=1", r"algo\.alpha=2"],
        ),
        ([(2.5, [], 0.9), (1.0, ["algo.alpha=1"], 0.9)], ["default", r"algo\.alpha=1"]),
        (  # a file of conf has changed in between: the words are the same
            [(a, [f"algo.alpha={a}"], g) for a in (1, 2) for g in (0.9, 0.8)],
            [rf"algo\.alpha={a}, [0-9a-f]{{4}}" for a in (1, 1, 2, 2)],
        ),
    ],
)
def test_a_setting_has_one_name_of_its_own_on_every_task(
    tmp_path: Path, tried: list[tuple[float, list[str], float]], expected: list[str]
) -> None:
    for env in ("hopper", "walker2d"):
        for level, (alpha, words, gamma) in enumerate(tried):
            for seeds in ([0, 1],) if env == "hopper" else ([0], [1]):  # runs of one seed, or two
                c = FakeCell(config(alpha=alpha, env=env, seeds=seeds, gamma=gamma))
                c.fixed += words
                write_run(tmp_path, c, value=lambda *_, level=level: 20 + 20 * 10.0 * level)
    (found,) = comparisons(summarise(load_runs(tmp_path), None, 2)).values()
    assert not found.left_out
    assert len(found.scores) == len(tried)
    by_level = sorted(found.scores, key=lambda name: found.scores[name].last.mean())
    for level, (name, pattern) in enumerate(zip(by_level, expected, strict=True)):
        assert re.fullmatch(f"td3_bc, {pattern}", name)
        assert found.scores[name].last == pytest.approx(10.0 * level)


def test_one_setting_evaluated_in_two_ways_takes_two_names(tmp_path: Path) -> None:
    for episodes in (2, 3):  # as a file of conf says: the command line has no word of it
        write_run(tmp_path, FakeCell(config(eval_episodes=episodes)))
    assert len(set(methods(summarise(load_runs(tmp_path), None, 2)).values())) == 2


def test_returns_are_never_averaged_over_tasks(tmp_path: Path) -> None:
    for env in ("hopper", "walker2d"):
        for algo in LEVEL:
            write_run(
                tmp_path, FakeCell(config(algo, source="file", quality=env)), folder=env + algo
            )
    assert comparisons(summarise(load_runs(tmp_path), None)) == {}


def test_the_readme_s_section_has_the_block_and_its_figure(tmp_path: Path) -> None:
    suite = suite_of()
    write(tmp_path / "runs", suite)
    folder = tmp_path / "results" / "demo"
    text, files = section(load_runs(tmp_path / "runs"), suite, folder, tmp_path / "README.md", "R")
    assert {p.name for p in files} == {"curves.svg", "profile-offrl-v5.svg"}
    assert "![T: performance profiles, offrl-v5](results/demo/profile-offrl-v5.svg)" in text
    assert "| P(better than bc) [95%] |" in text


def test_one_robot_is_no_suite_for_a_readme(tmp_path: Path) -> None:
    suite = suite_of()
    hopper = Suite("demo", [c for c in suite.cells if c.config["env"]["name"] == "hopper"])
    write(tmp_path, hopper)
    text, files = section(load_runs(tmp_path), hopper, tmp_path, tmp_path / "README.md", "R")
    assert {p.name for p in files} == {"curves.svg"}
    assert "IQM" not in text
    assert "IQM" in block(compared(tmp_path, hopper), 2)  # for `report.py stats` it is


def test_a_profile_is_drawn_per_method_the_same_bytes_every_time(tmp_path: Path) -> None:
    suite = suite_of()
    write(tmp_path, suite)
    groups = summarise(load_runs(tmp_path), suite, 2)
    (found,) = comparisons(groups).values()
    svg = profiles(found, by_method(groups), "offrl-v5")
    assert profiles(found, by_method(groups), "offrl-v5") == svg
    lines = [
        g
        for g in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g")
        if "line2d" in g.get("id", "")
        and any(p.get("d", "").count("L") > 100 for p in g.iter("{http://www.w3.org/2000/svg}path"))
    ]
    assert len(lines) == 2
