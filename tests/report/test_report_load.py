import csv
import json
from pathlib import Path

import pytest
from synthetic_runs import EVAL_HEADER, FakeCell, config, returns, write_run

from offrl.errors import UserError
from offrl.record import EVAL_COLUMNS
from offrl.report.about import key
from offrl.report.groups import summarise
from offrl.report.load import EPISODE_COLUMNS, load_runs


def test_the_columns_are_those_that_training_writes() -> None:
    assert ("run_id", *EVAL_COLUMNS) == EPISODE_COLUMNS
    assert list(EVAL_COLUMNS) == EVAL_HEADER


def test_a_run_at_any_depth_becomes_rows(tmp_path: Path) -> None:
    cell = FakeCell(config(seeds=[3, 4]))
    run = write_run(tmp_path / "a" / "b", cell)
    loaded = load_runs(tmp_path)
    (r,) = loaded.runs.to_dict("records")
    assert (r["run_id"], r["path"]) == (cell.run_id, str(run / "manifest.json"))
    assert (r["algo"], r["env"], r["dataset"]) == ("td3_bc", "hopper", "offrl/medium")
    assert (r["buffer_size"], r["norm_obs"], r["seeds"], r["step"]) == (100000, True, (3, 4), 5000)
    assert r["overrides"] == tuple(cell.overrides)
    # 2 seeds, 5 evaluations, 2 episodes
    assert (len(loaded.episodes), len(loaded.evaluations)) == (20, 10)
    first = loaded.evaluations.iloc[0]
    both = [returns(3, 1000, e) for e in (0, 1)]
    assert first["return_mean"] == pytest.approx(sum(both) / 2, rel=1e-15)
    assert first["score_mean"] == pytest.approx((sum(both) / 2 - 20) / 20, rel=1e-12)


def test_the_data_is_on_the_scale_of_the_score(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(config()))
    (r,) = load_runs(tmp_path).runs.to_dict("records")
    assert r["data_return_mean"] == 820
    assert (r["data_score_mean"], r["data_score_best"]) == (40.0, 80.0)


def test_without_reference_the_score_is_the_return(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(config(source="file", quality="mine")))
    (r,) = load_runs(tmp_path).runs.to_dict("records")
    assert (r["ref_min"], r["data_score_mean"]) == (None, 820.0)
    assert r["dataset"] == "file/mine"


def test_floats_come_back_bit_for_bit(tmp_path: Path) -> None:
    ugly = 0.1 + 0.2 + 1e-16
    write_run(tmp_path, FakeCell(config()), value=lambda s, t, e: ugly * (t + e) / 7)
    got = load_runs(tmp_path).episodes["return"].tolist()
    assert got == [ugly * (t + e) / 7 for t in range(1000, 5001, 1000) for e in (0, 1)]


def test_cells_differ_by_everything_but_seeds_and_a_file_s_place() -> None:
    base = config()
    assert key(config(seeds=[7, 8])) == key(base)
    moved = {**base, "dataset": {**base["dataset"], "path": "/somewhere/x.hdf5"}}
    assert key(moved) == key(base)
    assert key(config(alpha=1.0)) != key(base)
    assert key(config(norm_obs=False)) != key(base)
    assert key(config(quality="expert")) != key(base)


def test_a_seed_twice_in_complete_runs_names_both(tmp_path: Path) -> None:
    one = write_run(tmp_path, FakeCell(config(seeds=[0, 1])))
    two = write_run(tmp_path, FakeCell(config(seeds=[1])), value=lambda s, t, e: 1e-9 + t)
    with pytest.raises(UserError, match="seed 1") as e:
        load_runs(tmp_path)
    assert str(one) in str(e.value)
    assert str(two) in str(e.value)


def test_a_seed_that_two_runs_agree_on_counts_once(tmp_path: Path) -> None:
    for seeds in ([0, 1], [1, 2], [0, 1, 2]):
        write_run(tmp_path, FakeCell(config(seeds=seeds)))
    whole = FakeCell(config(seeds=[0, 1, 2])).run_id
    (group,) = summarise(load_runs(tmp_path), None)
    assert group.seeds == "3/3"
    assert group.counted == ((whole, 0), (whole, 1), (whole, 2))
    assert {s: round(x) for s, x in group.scores.last.items()} == {0: 44, 1: 49, 2: 54}


def test_one_run_at_two_places_is_an_error(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_run(tmp_path / place, FakeCell(config()), wall_s=ord(place))
    with pytest.raises(UserError, match="move one of them away"):
        load_runs(tmp_path)


def test_a_seed_of_an_unfinished_run_may_come_again(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(config(seeds=[0, 1])), status="diverged")
    write_run(tmp_path, FakeCell(config(seeds=[1])))
    assert len(load_runs(tmp_path).runs) == 2


def test_only_reads_the_runs_that_were_asked_for(tmp_path: Path) -> None:
    wanted = FakeCell(config(seeds=[0]))
    write_run(tmp_path, wanted)
    write_run(tmp_path, FakeCell(config(seeds=[0, 1])), value=lambda *_: 1.0)
    with pytest.raises(UserError, match="seed 0"):  # the other is read too
        load_runs(tmp_path)
    assert load_runs(tmp_path, lambda r: r["seeds"] == (0,)).runs["run_id"].tolist() == [
        wanted.run_id
    ]


def test_an_unfinished_run_is_a_row_without_evaluations(tmp_path: Path) -> None:
    run = write_run(tmp_path, FakeCell(config()), status="running", dataset=None, score=None)
    (run / "eval.csv").write_text("seed,step,epi")  # torn: it is being written
    loaded = load_runs(tmp_path)
    assert loaded.runs["status"].tolist() == ["running"]
    assert len(loaded.evaluations) == len(loaded.episodes) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ('{"schema": 2, "status": "complete"}', "schema 2"),
        ("[1, 2]", "schema None"),
        ('{"schema": 1, "status": "done"}', "status 'done'"),
        ('{"schema": 1, "status": "complete"}', "lacks"),
    ],
)
def test_a_bad_manifest_is_named(tmp_path: Path, text: str, says: str) -> None:
    run = write_run(tmp_path, FakeCell(config()))
    (run / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=says) as e:
        load_runs(tmp_path)
    assert str(run / "manifest.json") in str(e.value)


@pytest.mark.parametrize("key", ["algo", "dataset", "seeds", "buffer_size"])
def test_a_config_without_a_key_is_named_with_it(tmp_path: Path, key: str) -> None:
    run = write_run(tmp_path, FakeCell(config()))
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["config"][key]
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=key) as e:
        load_runs(tmp_path)
    assert str(run) in str(e.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "seed,step\n0,1\n",
        ",".join(EVAL_HEADER) + "\n0,1000,0,12.5,10\n",
        ",".join(EVAL_HEADER) + "\n0,1000,0,abc,10,1.0\n",
        ",".join(EVAL_HEADER) + "\n0,1000,0,1.0,10,1.0\n0,1000,0,2.0,10,1.0\n",
        ",".join(EVAL_HEADER) + "\n0,1000,0,nan,10,nan\n",
        ",".join(EVAL_HEADER) + "\n0,1000,0,inf,10,inf\n",
    ],
)
def test_a_bad_table_of_a_complete_run_is_named(tmp_path: Path, text: str) -> None:
    run = write_run(tmp_path, FakeCell(config()))
    (run / "eval.csv").write_text(text)
    with pytest.raises(UserError, match=r"eval\.csv"):
        load_runs(tmp_path)


def test_a_complete_run_without_its_table_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, FakeCell(config()))
    (run / "eval.csv").unlink()
    with pytest.raises(UserError, match=r"eval\.csv"):
        load_runs(tmp_path)


def test_no_directory_and_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        load_runs(tmp_path / "nowhere")
    assert len(load_runs(tmp_path).runs) == 0


def test_the_helper_writes_what_csv_reads(tmp_path: Path) -> None:
    run = write_run(tmp_path, FakeCell(config()))
    with (run / "eval.csv").open(newline="") as f:
        assert len(list(csv.DictReader(f))) == 10
