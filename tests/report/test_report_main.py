import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from synthetic_runs import FakeCell, config, write_run

from offrl.errors import UserError
from offrl.plan import plan
from offrl.report.commands import fill_command
from offrl.report.experiments import load_suite
from offrl.report.readme import closing, marked, opening, replaced
from offrl.report.suite import Suite, report_options

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "report.py"
CELLS = [FakeCell(config(algo, [s])) for algo in ("bc", "td3_bc") for s in (0, 1, 2)]
SUITE = Suite("demo", CELLS, report_options(title="A demo", caption="demo budget", last_k=3))
TWO_TASKS = Suite(
    "two",
    [
        FakeCell(config(algo, [s], quality=quality))
        for algo in ("bc", "td3_bc")
        for quality in ("medium", "expert")
        for s in (0, 1)
    ],
)
README = f"# Title\n\nbefore\n{opening('demo')}\nold\n{closing('demo')}\nafter\n"


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, on a project of its own: a README with markers, a suite called demo."""
    spec = importlib.util.spec_from_file_location("report_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert SCRIPT.parents[1] == script.ROOT
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "load_suite", {"demo": SUITE, "two": TWO_TASKS}.__getitem__)
    (tmp_path / "README.md").write_text(README)
    return script


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_from_runs_to_the_readme(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for c in CELLS[:3]:
        write_run(tmp_path / "runs", c)
    assert report.main(["publish", "demo", "--runs", str(tmp_path / "runs")]) == 0
    assert "3 runs published" in capsys.readouterr().out
    assert report.main(["tables", "--check"]) == 1  # the README does not have it yet
    assert report.main(["tables"]) == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Title\n\nbefore\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "![A demo: learning curves](results/demo/curves.svg)" in text
    assert "3/3" in text
    assert "not run" in text
    assert "demo budget" in text
    assert report.main(["tables", "--check"]) == 0
    before = files(tmp_path)
    assert report.main(["tables"]) == 0
    assert files(tmp_path) == before


@pytest.mark.parametrize("stale", ["README.md", "results/demo/curves.svg"])
def test_check_prints_a_diff_and_writes_nothing(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], stale: str
) -> None:
    for c in CELLS:
        write_run(tmp_path / "runs", c)
    report.main(["publish", "demo", "--runs", str(tmp_path / "runs")])
    report.main(["tables"])
    text = (tmp_path / stale).read_text()
    (tmp_path / stale).write_text(text.replace("3", "4", 1))
    before = files(tmp_path)
    capsys.readouterr()
    assert report.main(["tables", "--check"]) == 1
    diff = capsys.readouterr().out
    assert f"--- {stale} (committed)" in diff
    assert f"+++ {stale} (regenerated)" in diff
    assert diff.count(" (committed)") == 1
    assert files(tmp_path) == before
    (tmp_path / stale).unlink() if stale.endswith("svg") else None
    assert report.main(["tables"]) == 0
    assert (tmp_path / stale).read_text() == text


def test_one_changed_episode_makes_check_fail(report: ModuleType, tmp_path: Path) -> None:
    for c in CELLS:
        write_run(tmp_path / "runs", c)
    report.main(["publish", "demo", "--runs", str(tmp_path / "runs")])
    report.main(["tables"])
    file = tmp_path / "results/demo/evaluations.csv"
    lines = file.read_text().splitlines()
    *rest, score = lines[-1].split(",")
    lines[-1] = ",".join([*rest, str(float(score) + 5)])
    file.write_text("\n".join(lines) + "\n")
    assert report.main(["tables", "--check"]) == 1


def test_line_ends_are_bytes_too(report: ModuleType, tmp_path: Path) -> None:
    report.main(["tables"])
    assert report.main(["tables", "--check"]) == 0
    text = (tmp_path / "README.md").read_bytes()
    (tmp_path / "README.md").write_bytes(text.replace(b"old", b"").replace(b"| bc", b"| bc\r", 1))
    assert report.main(["tables", "--check"]) == 1


def test_a_suite_that_was_never_published_says_so(report: ModuleType, tmp_path: Path) -> None:
    assert report.main(["tables"]) == 0
    text = (tmp_path / "README.md").read_text()
    assert text.count("not run |") == 2
    assert "curves.svg" not in text
    assert report.main(["tables", "--check"]) == 0


def test_a_published_suite_without_markers_is_an_error(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "runs", CELLS[0])
    report.main(["publish", "demo", "--runs", str(tmp_path / "runs")])
    (tmp_path / "README.md").write_text("# Title\n")
    capsys.readouterr()
    assert report.main(["tables", "--check"]) == 1
    error = capsys.readouterr().err
    assert "<!-- table:demo -->" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        opening("a"),
        closing("a"),
        f"{closing('a')} {opening('a')}",
        f"{opening('a')} {opening('b')} {closing('b')} {closing('a')}",
        f"{opening('a')} {closing('b')}",
        f"{opening('a')} {closing('a')} {opening('a')} {closing('a')}",
    ],
)
def test_markers_that_do_not_pair(text: str) -> None:
    with pytest.raises(UserError, match=r"README\.md: <!-- /?table:"):
        marked(text, "README.md")


def test_sections_are_replaced_and_nothing_else() -> None:
    text = f"x{opening('a')}1{closing('a')}y\n{opening('b-2')}\n{closing('b-2')}z"
    assert marked(text, "") == ["a", "b-2"]
    got = replaced(text, {"a": "A\n", "b-2": "B\n"})
    assert got == f"x{opening('a')}\nA\n{closing('a')}y\n{opening('b-2')}\nB\n{closing('b-2')}z"
    assert replaced(got, {"a": "A\n", "b-2": "B\n"}) == got


def test_runs_are_shown_without_any_suite(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, figure = tmp_path / "runs", tmp_path / "x.svg"
    write_run(runs, CELLS[0])
    assert report.main(["tables", "--runs", str(runs), "--figure", str(figure)]) == 0
    out = capsys.readouterr().out
    assert "| bc        | hopper-offrl/medium |" in out
    assert f"`python benchmarks/report.py tables --runs {runs} --last-k 5`" in out
    assert "mean of last 5" in out
    assert figure.read_text().startswith("<?xml")
    assert (tmp_path / "README.md").read_text() == README
    assert report.main(["tables", "--runs", str(runs), "--suite", "demo"]) == 0
    out = capsys.readouterr().out
    assert "1/3 (2 not run)" in out
    assert "demo budget" in out


def test_aggregates_of_published_and_of_other_runs(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for c in TWO_TASKS.cells:
        assert isinstance(c, FakeCell)
        write_run(tmp_path / "runs", c)
    runs, figure = str(tmp_path / "runs"), tmp_path / "profile.svg"
    assert report.main(["stats", "two", "--runs", runs, "--figure", str(figure)]) == 0
    out = capsys.readouterr().out
    assert "| P(better than bc) [95%] |" in out
    assert figure.read_text().startswith("<?xml")
    assert report.main(["stats", "--runs", runs, "--baseline", "td3_bc"]) == 0
    assert "| P(better than td3_bc) [95%] |" in capsys.readouterr().out
    assert report.main(["publish", "two", "--runs", runs]) == 0
    capsys.readouterr()
    assert report.main(["stats", "two"]) == 0
    assert capsys.readouterr().out in out
    for wrong, says in {
        ("stats",): "wants a suite, --runs DIR or both",
        ("stats", "demo"): "results/demo: not published; name your runs by --runs DIR",
        ("stats", "two", "--baseline", "cql"): "no method here; there are bc; td3_bc",
        ("stats", "demo", "--runs", runs): "nothing to compare: needs two methods",
    }.items():
        assert report.main(list(wrong)) == 1
        assert says in capsys.readouterr().err


def test_one_scale_that_cannot_be_compared_hides_no_other(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for c in TWO_TASKS.cells:
        assert isinstance(c, FakeCell)
        write_run(tmp_path, c)
    write_run(tmp_path, FakeCell(config("bc", source="d4rl")))
    assert report.main(["stats", "--runs", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "| P(better than bc) [95%] |" in out
    assert err.startswith("d4rl: nothing to compare: needs two methods")
    assert report.main(["stats", "--runs", str(tmp_path), "--baseline", "cql"]) == 1
    assert "no method here" in capsys.readouterr().err


def test_a_profile_s_methods_are_named_by_its_own_scale_alone(
    report: ModuleType, tmp_path: Path
) -> None:
    for c in TWO_TASKS.cells:
        assert isinstance(c, FakeCell)
        write_run(tmp_path / "runs", c)
    for norm in (True, False):  # returns, which nothing is drawn of
        other = config("bc", source="file", quality="mine", norm_obs=norm)
        write_run(tmp_path / "runs", FakeCell(other))
    figure = tmp_path / "profile.svg"
    assert report.main(["stats", "--runs", str(tmp_path / "runs"), "--figure", str(figure)]) == 0
    assert figure.read_text().startswith("<?xml")


def test_a_sweep_s_budget(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for alpha in (1.0, 2.5):
        write_run(tmp_path, FakeCell(config(alpha=alpha)))
    assert report.main(["eop", "--runs", str(tmp_path)]) == 0
    assert "| n = 2" in capsys.readouterr().out
    assert report.main(["eop", "--runs", str(tmp_path), "--suite", "demo"]) == 1
    assert "two hyperparameter settings" in capsys.readouterr().err


def test_a_suite_of_variants_says_where_they_are(tmp_path: Path) -> None:
    conf = tmp_path / "tests" / "variants" / "conf"
    files = {
        "algo/bc_slow.yaml": "# @package _global_\n"
        "defaults: [bc, _self_]\nalgo: {name: bc_slow, lr: 1e-9}\n",
        "experiment/slow.yaml": "# @package _global_\nn_updates: 2000\neval_every: 1000\n"
        "report: {floor: 1000, title: Slow}\nhydra:\n  mode: MULTIRUN\n"
        "  sweeper: {params: {algo: 'bc,bc_slow'}}\n",
        "experiment/slower.yaml": "# @package _global_\ndefaults: [slow, _self_]\n"
        "report: {floor: 2000}\n",
        "experiment/wrong.yaml": "# @package _global_\nreport: {lask_k: 3}\n",
    }
    for name, text in files.items():
        (conf / name).parent.mkdir(parents=True, exist_ok=True)
        (conf / name).write_text(text)
    suite = load_suite(tmp_path, "slow")
    assert [c.config["algo"]["name"] for c in suite.cells] == ["bc", "bc_slow"]
    assert [c.config["n_updates"] for c in suite.at(1000)] == [1000, 1000]
    command = shlex.split(fill_command(suite.cells[1:], suite))
    assert command == [
        *("PYTHONPATH=tests", "python", "benchmarks/train.py"),
        *("hydra.searchpath=[tests/variants/conf]", "algo=bc_slow", "experiment=slow"),
    ]
    assert suite.options == report_options(title="Slow", floor=1000)
    heir = load_suite(tmp_path, "slower")
    assert heir.options == report_options(title="Slow", floor=2000)
    assert len(heir.cells) == 2
    with pytest.raises(UserError, match=r"experiment=wrong: report\.lask_k: unknown key"):
        load_suite(tmp_path, "wrong")
    with pytest.raises(UserError, match="fast: no such suite; there are slow"):
        load_suite(tmp_path, "fast")


def test_the_defaults_of_reports_are_those_of_training() -> None:
    (cell,) = plan([]).cells
    assert cell.report == report_options()
    assert cell.report.published == ("corl/last", "rebrac_paper/last")


def test_errors_are_one_line(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(["tables", "--runs", str(tmp_path / "nowhere")]) == 1
    assert report.main(["publish", "demo", "--runs", str(tmp_path / "nowhere")]) == 1
    assert report.main(["tables", "--suite", "demo"]) == 1
    assert report.main(["tables", "--check", "--runs", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 4
    assert "Traceback" not in captured.err


def test_the_command_itself_from_anywhere(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", CELLS[0])
    shown = subprocess.run(
        [sys.executable, str(SCRIPT), "tables", "--runs", "runs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| bc " in shown.stdout
    unknown = subprocess.run(
        [sys.executable, str(SCRIPT), "publish", "no_such_suite", "--runs", "runs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert unknown.returncode == 1
    assert "no_such_suite: no such suite; there are" in unknown.stderr


def test_help_is_light() -> None:
    code = (
        "import runpy, sys; sys.argv = ['report.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'scipy', 'hydra', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "publish SUITE --runs DIR" in done.stdout
