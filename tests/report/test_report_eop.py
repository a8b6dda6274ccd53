import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from pipe_tables import rows
from synthetic_runs import FakeCell, config, write_run

from offrl.errors import UserError
from offrl.report.eop import expected_maximum, table
from offrl.report.groups import summarise
from offrl.report.load import load_runs

GOLDEN = Path(__file__).parent / "golden"


def read(name: str) -> list[dict[str, str]]:
    with (GOLDEN / name).open(newline="") as f:
        return list(csv.DictReader(f))


def test_the_golden_table_comes_out() -> None:
    inputs = read("eop_inputs.csv")
    expected = read("eop_expected.csv")
    assert len(expected) == 53
    for e in expected:
        values = [
            float(r["score"])
            for r in inputs
            if (r["domain"], r["algo"]) == (e["domain"], e["algo"])
        ]
        assert len(values) == int(e["n_policies_total"])
        mean, std = expected_maximum(values, int(e["n_policies_evaluated"]))
        assert f"{mean:.6f}" == e["recomputed_mean"]
        assert f"{std:.6f}" == e["recomputed_std"]
        assert mean == pytest.approx(float(e["published_mean"]), abs=0.051)


def test_by_hand() -> None:
    # two draws of {1, 3}: the maximum is 1 with probability 1/4
    assert expected_maximum([3.0, 1.0], 1) == (2.0, 1.0)
    mean, std = expected_maximum([3.0, 1.0], 2)
    assert (mean, std**2) == (2.5, pytest.approx(0.75))
    assert expected_maximum([5.0], 7) == (5.0, 0.0)


def sweep(root: Path, env: str, level: float, alphas: dict[float, float], seeds: int = 2) -> None:
    """A setting's score is its value, plus the level of the task; seeds lie 10 on either side."""
    for alpha, value in alphas.items():
        for s in range(seeds):
            cell = FakeCell(config(alpha=alpha, env=env, seeds=[s]))
            score = value + level + (20 * s - 10)
            write_run(root, cell, value=lambda *_, score=score: 20 + 20 * score)


def test_a_sweep_of_settings_on_two_tasks(tmp_path: Path) -> None:
    sweep(tmp_path, "hopper", 0.0, {1.0: 30.0, 2.5: 50.0, 5.0: 10.0})
    sweep(tmp_path, "walker2d", 20.0, {1.0: 30.0, 2.5: 10.0, 5.0: 50.0})
    write_run(tmp_path, FakeCell(config("bc")))  # one setting: no row
    text = table(summarise(load_runs(tmp_path), None))
    both, hopper, walker2d = rows(text)
    assert [both["algorithm"], both["settings"]] == ["td3_bc", "3/3"]
    assert both["dataset (offrl-v5)"] == "mean over the tasks"
    # means over the tasks: 40, 40, 40; on hopper 30, 50, 10
    assert (both["n = 1"], both["n = 3"]) == ("40.0 (0.0)", "40.0 (0.0)")
    assert hopper["n = 1"] == "30.0 (16.3)"
    assert hopper["n = 3"] == f"{(10 + 7 * 30 + 19 * 50) / 27:.1f} (10.9)"
    assert walker2d["n = 1"] == "50.0 (16.3)"
    assert "n = 5" not in hopper
    assert "standard deviation" in text


def test_a_setting_without_all_its_seeds_is_said_to_be_left_out(tmp_path: Path) -> None:
    sweep(tmp_path, "hopper", 0.0, {1.0: 30.0, 2.5: 50.0})
    write_run(tmp_path, FakeCell(config(alpha=9.0, seeds=[0])))
    write_run(tmp_path, FakeCell(config(alpha=9.0, seeds=[1])), status="diverged")
    text = table(summarise(load_runs(tmp_path), None))
    (row,) = rows(text)
    assert (row["settings"], row["n = 1"]) == ("2/3", "40.0 (10.0)")
    assert "flatters" in text


def test_without_a_sweep_the_error_shows_one(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(config()))
    with pytest.raises(UserError, match=r"algo\.alpha=1,2\.5,5"):
        table(summarise(load_runs(tmp_path), None))


def tried(
    root: Path, score: float, seeds: Sequence[int] = (0,), digest: str = "d", **changes: object
) -> None:
    """A run of each seed, at that score; `said`: what the command line said besides."""
    said, data = changes.pop("said", "algo.alpha=2.5"), changes.pop("data", {})
    penalty = changes.pop("penalty", 0.0)
    for s in seeds:
        c = config(seeds=[s], **changes)
        c["dataset"] |= data
        c["algo"]["penalty"] = penalty
        returns = {"return_mean": 820.0, "return_std": 200.0, "return_best": 1620.0}
        dataset = {"id": "x", "digest": digest, "n_transitions": 100, "n_episodes": 1} | returns
        cell = FakeCell(c, fixed=["experiment=demo", f"env={c['env']['name']}", str(said)])
        write_run(root, cell, value=lambda *_: 20 + 20 * score, dataset=dataset)


def shown(root: Path) -> dict[str, tuple[str, str]]:
    """Task -> its settings, and the score of one of them."""
    found = rows(table(summarise(load_runs(root), None)))
    return {r["dataset (offrl-v5)"]: (r["settings"], r["n = 1"]) for r in found}


def test_other_parameters_of_the_data_are_another_task(tmp_path: Path) -> None:
    for n, scores in ((10000, (10.0, 20.0)), (100000, (90.0, 80.0))):
        for alpha, score in zip((1.0, 2.5), scores, strict=True):
            data = {"n_transitions": n, "path": f"/{alpha}"}  # where a file lies says nothing
            tried(tmp_path, score, digest=f"{n}", data=data, alpha=alpha)
    assert shown(tmp_path) == {
        "mean over the tasks": ("2/2", "50.0 (0.0)"),
        "hopper-offrl/medium, n_transitions=10000": ("2/2", "15.0 (5.0)"),
        "hopper-offrl/medium, n_transitions=100000": ("2/2", "85.0 (5.0)"),
    }


def test_settings_on_other_versions_of_the_data_are_left_out_and_named(tmp_path: Path) -> None:
    for env in ("hopper", "walker2d"):
        for alpha in (1.0, 2.5):
            digest = "other" if (env, alpha) == ("hopper", 1.0) else "same"
            tried(tmp_path, 50.0, env=env, alpha=alpha, digest=digest)
    assert list(shown(tmp_path)) == ["walker2d-offrl/medium"]
    text = table(summarise(load_runs(tmp_path), None))
    assert "versions of the data, so left out: td3_bc on hopper-offrl/medium." in text


PENALTY = {
    "hopper": 0.1,
    "walker2d": 0.01,
}  # tuned per dataset: on each task another setting's hash


def test_a_setting_that_a_table_tunes_per_task_is_known_by_its_words(tmp_path: Path) -> None:
    for env, level in (("hopper", 0.0), ("walker2d", 20.0)):
        for alpha in (1.0, 2.5):
            said = f"algo.alpha={alpha}"
            score = level + 10 * alpha
            tried(tmp_path, score, env=env, alpha=alpha, penalty=PENALTY[env], said=said)
    assert shown(tmp_path) == {
        "mean over the tasks": ("2/2", "27.5 (7.5)"),
        "hopper-offrl/medium": ("2/2", "17.5 (7.5)"),
        "walker2d-offrl/medium": ("2/2", "37.5 (7.5)"),
    }
    assert "words on the command line" in table(summarise(load_runs(tmp_path), None))


def test_words_that_a_task_has_twice_are_of_no_mean(tmp_path: Path) -> None:
    for env in ("hopper", "walker2d"):
        for alpha in (1.0, 2.5, 5.0):
            said = "algo.alpha=5" if alpha == 5.0 else "algo=td3_bc"  # 1 or 2.5, by the table then
            tried(tmp_path, 10 * alpha, env=env, alpha=alpha, penalty=PENALTY[env], said=said)
    assert list(shown(tmp_path)) == ["hopper-offrl/medium", "walker2d-offrl/medium"]
    for env in ("hopper", "walker2d"):
        tried(tmp_path, 70.0, env=env, alpha=7.0, penalty=PENALTY[env], said="algo.alpha=7")
    assert shown(tmp_path)["mean over the tasks"] == ("2/3", "60.0 (10.0)")


def test_each_task_has_seeds_and_settings_of_its_own(tmp_path: Path) -> None:
    for env, n in (("hopper", 3), ("walker2d", 5)):
        for alpha in (1.0, 2.5):
            tried(tmp_path, 10 * alpha, range(n), env=env, alpha=alpha)
    tried(tmp_path, 50.0, range(5), env="walker2d", alpha=5.0)
    tried(tmp_path, 90.0, range(4), env="walker2d", alpha=9.0, said="algo.alpha=9")  # lacks one
    assert shown(tmp_path) == {
        "mean over the tasks": ("2/4", "17.5 (7.5)"),
        "hopper-offrl/medium": ("2/2", "17.5 (7.5)"),
        "walker2d-offrl/medium": ("3/4", "28.3 (16.5)"),
    }
