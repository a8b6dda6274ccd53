"""Evaluates a run again: first the episodes of its last evaluation, exactly, then more.

python benchmarks/evaluate.py RUN_DIR [episodes=100] [video=x.gif]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works uninstalled

from offrl.data.dataset import ScoreRef
from offrl.engine import reproducible
from offrl.envs.make import make_envs
from offrl.errors import UserError
from offrl.evaluate import CHUNK, evaluate
from offrl.pipe import until_closed
from offrl.policy import env_of, load_policies
from offrl.record import read_json
from offrl.video import film

USAGE = "python benchmarks/evaluate.py RUN_DIR [episodes=N] [video=FILE.gif]"


def main(argv: Sequence[str]) -> None:
    run_dir, episodes, video = arguments(argv)
    policies, step = load_policies(run_dir)
    manifest = read_json(run_dir / "manifest.json")
    reproducible(manifest["numerics"]["threads"])
    ref = env_of(manifest)
    score = ScoreRef(*(manifest["score"][k] for k in ("name", "ref_min", "ref_max")))
    n = episodes or manifest["config"]["eval_episodes"]
    env = make_envs(ref, min(n, 2 * CHUNK))

    print(f"{run_dir.name}: step {step}, {ref.id}, score: {score.name}")
    total: list[float] = []
    for seed, policy in policies.items():
        noise = policy.algo.act_noise_dim, (seed, "eval", step)
        returns = [e.return_ for e in evaluate(policy, env, n, *noise)]
        print(line(f"seed {seed}", returns, score))
        total += returns
    print(line("all", total, score))
    if video is not None:
        seed, policy = next(iter(policies.items()))
        film(policy, ref, video, policy.algo.act_noise_dim, (seed, "eval", step))
        print(f"episode 0 of seed {seed}: {video}")


def line(name: str, returns: Sequence[float], score: ScoreRef) -> str:
    x = np.array(returns)
    y = score.normalise(x)
    return (
        f"{name:8} return {x.mean():10.3f} +- {x.std():9.3f}   "
        f"score {y.mean():8.3f} +- {y.std():7.3f}   n = {len(x)}"
    )


def arguments(argv: Sequence[str]) -> tuple[Path, int | None, Path | None]:
    """(run directory, episodes, video).  Raises UserError."""
    folders = [a for a in argv if not _is_option(a)]
    options = dict(a.split("=", 1) for a in argv if _is_option(a))
    unknown = sorted(options.keys() - {"episodes", "video"})
    if unknown or len(folders) != 1:
        raise UserError(f"{unknown[0]}: unknown option; {USAGE}" if unknown else f"usage: {USAGE}")
    episodes = options.get("episodes")
    if episodes is not None and not (episodes.isdecimal() and int(episodes) > 0):
        raise UserError(f"episodes={episodes}: must be a whole number, at least 1")
    video = options.get("video")
    if video is not None and not video.endswith(".gif"):
        raise UserError(f"video={video}: only .gif files can be written")
    return Path(folders[0]), int(episodes) if episodes else None, Path(video) if video else None


def _is_option(word: str) -> bool:
    return "=" in word and "/" not in word.partition("=")[0]  # runs/alpha=1/... is a folder


if __name__ == "__main__":
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        sys.exit()
    try:
        with until_closed():
            main(sys.argv[1:])
    except UserError as e:
        sys.exit(f"evaluate: {e}")
    except KeyboardInterrupt:
        sys.exit("evaluate: stopped")
