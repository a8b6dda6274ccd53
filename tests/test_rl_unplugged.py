"""benchmarks/convert_rl_unplugged.py and dataset=rlu, from shards to whole runs."""

import gzip
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import ROOT, Train, cell, manifest

sys.path.insert(0, str(ROOT / "tests" / "data"))

from rlu_toys import episode, write_shard

from benchmarks.timing import conversion, table
from offrl.data.atari_file import read_meta
from offrl.envs.atari import AtariSettings, action_names
from offrl.envs.make import atari_settings
from offrl.errors import UserError
from offrl.rl_unplugged import Shards, convert_shard
from offrl.sources import Game, RLUnplugged
from offrl.versions import versions

SCRIPT = ROOT / "benchmarks" / "convert_rl_unplugged.py"
SETTINGS = AtariSettings(
    game="breakout",
    sticky_actions=0.25,
    noop_max=0,
    frame_skip=4,
    fire_reset=False,
    fire_after_life_loss=False,
    episodic_life=False,
    clip_rewards=True,
    max_episode_steps=27000,
)
TINY = (
    *("algo=discrete_cql", "algo.hidden=[8]", "n_updates=2", "eval_every=2", "eval_episodes=1"),
    *("batch_size=4", "env=breakout", "dataset=rlu"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two local shards; an empty data folder."""
    monkeypatch.setenv("OFFRL_DATA", str(tmp_path / "data"))
    for k, length in ((0, 30), (1, 20)):
        rows = [*episode(k + 1, length).rows(), *episode(k + 5, 9, False).rows(2)]
        write_shard(tmp_path / "raw" / "Breakout" / f"run_1-0000{k}-of-00100", rows)
    return tmp_path


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *args], capture_output=True, text=True, cwd="/", check=False
    )


def job(folder: Path, **changes: Any) -> Shards:
    values = Shards("breakout", 1, (0,), None, f"{folder}/raw", "http://x", (), False, 1)
    return replace(values, **changes)


def out_of(folder: Path, shard: int = 0) -> Path:
    return folder / "data" / "rl_unplugged" / "Breakout" / f"run_1-0000{shard}-of-00100.npz"


def in_process(args: list[str], m: pytest.MonkeyPatch) -> str:
    """What the command says when it refuses its arguments."""
    m.setattr(sys, "argv", [str(SCRIPT), *args])
    with pytest.raises(SystemExit) as e:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return str(e.value.code)


def test_two_shards_are_converted_and_trained_on(folder: Path, train: Train) -> None:
    # the third one is not there: the others are converted nevertheless
    played = "played.max_episode_steps=40"  # evaluations are as long
    done = command("game=breakout", "shards=[0,7,1]", f"source={folder}/raw", played)
    assert done.returncode == 1
    assert "raw: there is neither Breakout/run_1-00007-of-00100 nor" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines() == [str(out_of(folder, 0)), str(out_of(folder, 1))]
    meta = read_meta(out_of(folder, 1))
    short = replace(SETTINGS, max_episode_steps=40)
    assert AtariSettings(**meta["env"]) == short
    assert (meta["source"], meta["run"], meta["shard"], meta["n"]) == ("rl_unplugged", 1, 1, 27)
    assert meta["actions"] == list(action_names("breakout"))

    again = command("game=Breakout", "shards=[0,1]", f"source={folder}/raw")
    assert (again.returncode, again.stderr.count("converted before")) == (0, 2)

    run = train(*TINY, "dataset.shards=[0,1]")
    assert run.code == 0, run.err
    record = manifest(run.run_dir)
    data = record["dataset"]
    assert (data["id"], data["n_transitions"]) == ("rlu/breakout/run1/0-1-v0", 64)
    assert data["n_episodes"] == 4
    # returns of clipped games are on no scale, so tables print nothing
    assert data["return_mean"] is data["return_std"] is data["return_best"] is None
    assert record["score"]["name"] == "human"
    assert record["score"]["settings"] == {
        k: v for k, v in vars(replace(short, clip_rewards=False)).items() if k != "game"
    }
    report = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))
    assert report["main"](["tables", "--runs", str(run.run_dir.parent)]) == 0


def test_the_dataset_and_what_is_evaluated(folder: Path) -> None:
    convert_shard(job(folder), SETTINGS, 0, 0)
    c = cell(*TINY)
    assert c.source == RLUnplugged("rlu", "run1", 1, (0,), None)
    task = c.source.task(c.env)
    assert atari_settings(task.env) == replace(SETTINGS, clip_rewards=False)
    data = c.source.open(c.env)
    assert len(data.episode_returns()) == 0
    assert np.load(out_of(folder))["complete"].tolist() == [True, False]
    assert c.config["dataset"]["id"] == "rlu/breakout/run1/0-v0"
    assert c.config["dataset"]["shards"] == [0]
    moved = folder / "elsewhere"
    convert_shard(job(folder, out=str(moved)), SETTINGS, 0, 0)
    assert cell(*TINY, f"dataset.path={moved}").run_id == c.run_id
    # the file itself, opened as any other, has no returns either
    plain = cell(*TINY[:-1], "dataset=atari/file", f"dataset.path={out_of(folder)}")
    assert len(plain.source.open(plain.env).episode_returns()) == 0
    assert len(plain.source.open(plain.env)) == 37


def test_what_is_not_converted_names_the_command(folder: Path) -> None:
    convert_shard(job(folder), SETTINGS, 0, 0)
    source = RLUnplugged("rlu", "run1", 1, (0, 1, 2), None)
    words = r"run_1-00001-of-00100.npz: is not there.*game=Breakout run=1 'shards=\[1,2\]'$"
    with pytest.raises(UserError, match=words):
        source.task(Game("breakout"))
    with pytest.raises(UserError, match=r"'shards=\[0,1,2\]' 'out=/a b'$"):
        replace(source, path="/a b").task(Game("breakout"))
    with pytest.raises(UserError, match=r"dataset.run=9: .*1 to 5"):
        replace(source, run=9)
    with pytest.raises(UserError, match="game=adventure: RL Unplugged has no such"):
        source.task(Game("adventure"))
    out_of(folder).rename(out_of(folder, 1))
    with pytest.raises(UserError, match="holds breakout, run 1, shard 0; convert it again"):
        replace(source, shards=(1,)).task(Game("breakout"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["game=Brekout"], "offrl: game=Brekout: .* is it Breakout"),
        (["game=Pong", "run=0"], "offrl: run=0"),
        (["game=Pong", "shards=[100]"], "offrl: shards: 100"),
        (["game=Pong", "shards=3"], "must be a list, written as shards="),
        (["game=Pong", "workers=0"], "offrl: workers=0"),
        (["game=Pong", "played.frame_skip=0"], "offrl: frame_skip=0"),
        ([], "offrl: game: no value; set game="),
    ],
)
def test_bad_arguments(args: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(words, in_process(args, monkeypatch))


def test_bad_shards_and_places(folder: Path) -> None:
    (folder / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"file/Breakout.*cannot be written.*set another out="):
        convert_shard(job(folder, out=f"{folder}/file"), SETTINGS, 0, 0)
    raw = folder / "raw" / "Breakout" / "run_1-00000-of-00100"
    raw.write_bytes(raw.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"run_1-00000-of-00100: record .*cut off"):
        convert_shard(job(folder), SETTINGS, 0, 0)
    assert [p.name for p in out_of(folder).parent.glob("*")] == [f".{out_of(folder).name}.lock"]


class Server(ThreadingHTTPServer):
    """Serves one body; the first answer stops in the middle."""

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.asked = body, list[tuple[str, str | None]]()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        s, wanted = self.server, self.headers.get("Range")
        s.asked.append((self.path, wanted))
        if not self.path.startswith("/good/"):
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(s.body) - 1}/{len(s.body)}")
        self.send_header("Content-Length", str(len(s.body) - start))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(s.body[start:] if wanted else s.body[: len(s.body) // 2])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server((folder / "raw" / "Breakout" / "run_1-00000-of-00100").read_bytes()) as s:
        thread = threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield s
        s.shutdown()


def test_a_download_goes_on_and_is_removed(folder: Path, server: Server) -> None:
    base = f"http://127.0.0.1:{server.server_port}"
    remote = job(folder, source=None, url=f"{base}/bad", mirrors=(f"{base}/good/",))
    assert convert_shard(remote, SETTINGS, 0, 0).endswith("37 transitions")
    path = "/good/Breakout/run_1-00000-of-00100"
    assert server.asked == [(path, None), (path, f"bytes={len(server.body) // 2}-")]
    downloads = folder / "data" / "rl_unplugged" / "downloads" / "Breakout"
    assert [p.suffix for p in downloads.iterdir()] == [".lock"]
    out_of(folder).unlink()
    convert_shard(replace(remote, keep_downloads=True), SETTINGS, 0, 0)
    assert (downloads / "run_1-00000-of-00100").read_bytes() == server.body


def test_what_no_server_has(folder: Path, server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}/bad"
    with pytest.raises(UserError, match=r"cannot download run_1-00000-of-00100; .*404"):
        convert_shard(job(folder, source=None, url=url), SETTINGS, 0, 0)
    assert not out_of(folder).exists()
    server.body = b"<html>please log in" * 99
    url = f"http://127.0.0.1:{server.server_port}/good"
    with pytest.raises(UserError, match="what it sent is no such file"):
        convert_shard(job(folder, source=None, url=url), SETTINGS, 0, 0)


@pytest.mark.full
def test_a_killed_conversion_leaves_nothing_half_written(folder: Path) -> None:
    long = [r for k in range(1, 21) for r in episode(k, 200).rows()]
    write_shard(folder / "raw" / "Breakout" / "run_1-00001-of-00100", long)
    args = ["game=breakout", "shards=[0,1]", f"source={folder}/raw", "workers=1"]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *args], start_new_session=True, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    temporary = f".{out_of(folder, 1).name}.*.tmp"
    while not (begun := list(out_of(folder).parent.glob(temporary))) and time.monotonic() < until:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert begun, "it was never seen writing"
    assert out_of(folder, 0).exists()
    if not out_of(folder, 1).exists():
        before = out_of(folder).stat().st_mtime_ns
        done = command(*args)
        assert done.returncode == 0, done.stderr
        assert f"{out_of(folder)}: 37 transitions, converted before" in done.stderr
        assert out_of(folder).stat().st_mtime_ns == before
    assert read_meta(out_of(folder, 1))["n"] == 4000
    assert not list(out_of(folder).parent.glob("*.tmp"))


@pytest.mark.full
def test_the_figure_of_speed() -> None:
    record = conversion.conversion(200, lambda _: None)
    assert record["transitions"] == 200
    assert set(record["ways"]) == {"1", "2", "naive"}
    assert record["file_bytes"] < record["shard_bytes"]
    machine = {"cpu": "x", "cores": 2, "capability": "y", "memory_gb": 4}
    about = {"machine": machine, "versions": versions(), "date": "today"}
    text = table.conversion({**about, "convert": record})
    assert "200 transitions of Breakout, made of random play" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row.split("|")[1].strip() for row in rows] == list(table.WAYS.values())
    assert " 1.0 |" in rows[-1]  # the naive way beside itself


def test_the_figures_shard_is_real_play(tmp_path: Path) -> None:
    rows = list(conversion.rows(replace(SETTINGS, max_episode_steps=50), 120, 0))
    assert len(rows) == 120
    assert len(gzip.compress(b"".join(rows))) < sum(map(len, rows)) / 2
