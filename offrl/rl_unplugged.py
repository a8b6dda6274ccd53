"""Shards of RL Unplugged's Atari data, fetched and converted side by side."""

import multiprocessing
import shlex
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from offrl.data.atari_file import read_meta
from offrl.data.download import fetch
from offrl.data.locate import cache_dir
from offrl.data.rlu_convert import Played, convert, only_writer
from offrl.data.rlu_games import check_shards, game_named, shard_name
from offrl.envs.atari import AtariSettings, action_names, rom_id
from offrl.errors import UserError

VERSION = "v0"  # of the conversion


@dataclass(frozen=True)
class Shards:
    """conf/convert_rl_unplugged.yaml: which shards, from where and to where."""

    game: str  # Breakout, or breakout
    run: int
    shards: tuple[int, ...]
    out: str | None
    source: str | None
    url: str
    mirrors: tuple[str, ...]
    keep_downloads: bool
    workers: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "game", game_named(self.game))
        check_shards(self.run, self.shards, "")
        if self.workers < 1:
            raise UserError(f"workers={self.workers}: must be at least 1")


def converted(out: str | None, game: str, run: int, shard: int) -> Path:
    """Where a converted shard is; `game` as RL Unplugged spells it."""
    folder = cache_dir() / "rl_unplugged" if out is None else Path(out).expanduser()
    return folder / game / f"{shard_name(run, shard)}.npz"


def recorded_settings(
    out: str | None, game: str, run: int, shards: tuple[int, ...]
) -> AtariSettings:
    """How the games in these converted shards were played.

    Raises UserError, with the command that makes them, where they are not there, and where they
    are not what their names say.
    """
    paths = [converted(out, game, run, k) for k in shards]
    if missing := [k for k, path in zip(shards, paths, strict=True) if not path.exists()]:
        where = "" if out is None else f" {shlex.quote(f'out={out}')}"
        raise UserError(
            f"{paths[shards.index(missing[0])]}: is not there; make it with: "
            "python benchmarks/convert_rl_unplugged.py "
            f"game={game} run={run} 'shards={str(missing).replace(' ', '')}'{where}"
        )
    metas = [read_meta(path) for path in paths]
    for path, shard, meta in zip(paths, shards, metas, strict=True):
        of = AtariSettings(**meta["env"]).game, meta.get("run"), meta.get("shard")
        if of != (rom_id(game), run, shard):
            raise UserError(f"{path}: holds {of[0]}, run {of[1]}, shard {of[2]}; convert it again")
        if meta["env"] != metas[0]["env"]:
            raise UserError(f"{path}: played otherwise than {paths[0]}; convert both alike")
    return AtariSettings(**metas[0]["env"])


def convert_all(
    job: Shards, settings: AtariSettings, say: Callable[[str], object]
) -> dict[int, Path | UserError]:
    """What became of every shard: its file, or why there is none."""
    found: dict[int, Path | UserError] = {}
    context = multiprocessing.get_context("spawn")  # a fork would share this process' threads
    with ProcessPoolExecutor(min(job.workers, len(job.shards)), context) as pool:
        waiting: dict[Future[str], int] = {
            pool.submit(convert_shard, job, settings, shard, k): shard
            for k, shard in enumerate(job.shards)
        }
        for future in as_completed(waiting):
            shard = waiting[future]
            try:
                say(future.result())
                found[shard] = converted(job.out, job.game, job.run, shard)
            except UserError as e:
                found[shard] = e
            except BrokenProcessPool:
                name = shard_name(job.run, shard)
                why = "a process was killed (by lack of memory?); the same command goes on"
                found[shard] = UserError(f"{job.game}/{name}: {why}, perhaps with workers=1")
    return {shard: found[shard] for shard in job.shards}


def convert_shard(job: Shards, settings: AtariSettings, shard: int, line: int) -> str:
    """Converts a shard unless it is; says what it is then.  Its progress bar stands in `line`.

    Raises UserError.
    """
    out, name = converted(job.out, job.game, job.run, shard), shard_name(job.run, shard)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with only_writer(out):
            if out.exists():
                return f"{out}: {read_meta(out)['n']:,} transitions, converted before"
            path = _local(job.source, job.game, name) if job.source else _fetched(job, name)
            n = _convert(path, out, job, settings, shard, line)
            if not job.source and not job.keep_downloads:
                path.unlink()
    except OSError as e:
        raise UserError(f"{out}: cannot be written: {e.strerror or e}; set another out=") from e
    return f"{out}: {n:,} transitions"


def _convert(
    path: Path, out: Path, job: Shards, settings: AtariSettings, shard: int, line: int
) -> int:
    actions = action_names(settings.game)
    meta = {
        "version": VERSION,
        "source": "rl_unplugged",
        "run": job.run,
        "shard": shard,
        "env": asdict(settings),
        "actions": list(actions),
    }
    size = path.stat().st_size if path.exists() else 0
    with tqdm(
        desc=out.stem, total=size, position=line, unit="B", unit_scale=True, disable=None
    ) as bar:
        played = Played(actions, settings.max_episode_steps, meta)
        return convert(path, out, played, bar.update)


def _local(source: str, game: str, name: str) -> Path:
    folder = Path(source).expanduser()
    for path in (folder / game / name, folder / name):
        if path.exists():
            return path
    raise UserError(f"source={source}: there is neither {game}/{name} nor {name}")


def _fetched(job: Shards, name: str) -> Path:
    bases = [*job.mirrors, job.url]
    target = cache_dir() / "rl_unplugged" / "downloads" / job.game / name
    fetch([f"{base.rstrip('/')}/{job.game}/{name}" for base in bases], target, _is_gzip)
    return target


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as f:
        return f.read(2) == b"\x1f\x8b"
