"""The suite's own Atari data: a QR-DQN agent that plays with epsilon, on demand.

Each game's policy is a file of the package, offrl/policies/atari/<game>.safetensors, beside a
record of where it came from; the data is the same on every machine of one class, and cached.
"""

import csv
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import cache
from importlib import resources
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from torch import Tensor
from tqdm import tqdm

from offrl.checkpoint import load_tensors
from offrl.config import build
from offrl.data.atari_file import unpack_atari, write_games
from offrl.data.dataset import Dataset, ScoreRef
from offrl.data.digest import sha256_file
from offrl.data.memory import require_disk
from offrl.data.play import play
from offrl.data.rows import Rows
from offrl.data.store import content_digest, open_dataset
from offrl.envs.atari import AtariSettings, action_names
from offrl.envs.make import atari, make_envs
from offrl.errors import UserError
from offrl.evaluate import CHUNK, one_thread
from offrl.rng import generator
from offrl.versions import numerics

VERSION = "v0"  # of the data: a new set of policies, or of rules below, is a new version
SIMULATOR = ("ale-py",)
POLICIES = files("offrl") / "policies" / "atari"


def record_path(game: str) -> Traversable:
    return POLICIES / f"{game}.json"


def training_command(game: str) -> str:
    return f"python benchmarks/collect.py env={game} algo=qrdqn out=DIR publish=true"


def record_of(game: str) -> dict[str, Any]:
    """The provenance record of a game's behaviour policy.  UserError if there is none.

    Keys that are read here: actions (their names), algo (as in
    conf/algo), policy.sha256.
    """
    path = record_path(game)
    if not path.is_file():
        raise UserError(
            f"env={game}: the suite has no behaviour policy for it: train one first with "
            f"{training_command(game)}, or take data from elsewhere (dataset=atari/file, rlu)"
        )
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def as_evaluated(settings: AtariSettings) -> AtariSettings:
    """How policies that learnt from such data are evaluated: the same, whole games, unclipped."""
    return replace(settings, episodic_life=False, clip_rewards=False)


def human(game: str) -> ScoreRef:
    """0 is a random player, 100 a human; games without such numbers are scored by their return."""
    row = _references().get(game)
    if row is None:
        return ScoreRef("return", None, None)
    return ScoreRef("human", float(row["random"]), float(row["human"]))


class Behaviour(NamedTuple):
    """A policy that gathers data."""

    settings: AtariSettings  # of the games
    algo: Mapping[str, Any]  # as in conf/algo; it has eps_test
    tensors: Mapping[str, Tensor]  # the policy_fields of its state, in any precision
    sha256: str  # of the file that these come from


def own_behaviour(settings: AtariSettings) -> Behaviour:
    """The embedded policy of a game, to play it so.  UserError where there is none, or not the
    recorded one.
    """
    game = settings.game
    record = record_of(game)
    with as_file(POLICIES / f"{game}.safetensors") as path:
        tensors, _ = load_tensors(path)
        sha256 = sha256_file(path)
    if sha256 != record["policy"]["sha256"]:
        raise UserError(f"offrl/policies/atari/{game}.safetensors: not what {game}.json records")
    kept = {k: x.float() for k, x in tensors.items()}  # it may be in half precision
    return Behaviour(settings, record["algo"], kept, sha256)


def own_games(
    settings: AtariSettings, n: int, epsilon: float, seed: int, cache_root: Path
) -> Dataset:
    """`n` transitions of a game's own policy, from the cache or played now.

    The cache is addressed by everything that the data depends on; the digest is one of the bytes
    that came out.
    """
    game, behaviour = settings.game, own_behaviour(settings)
    made_from = origin(behaviour, n, epsilon, seed)
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    dataset_id = f"atari/{game}/qrdqn-{VERSION}"
    try:
        dataset = replace(open_dataset(cache_root, key), id=dataset_id)
    except FileNotFoundError:
        require_disk(cache_root, n * 84 * 84, dataset_id, "take fewer dataset.n_transitions")
        bar = tqdm(total=n, desc=f"playing {game}", unit="step", disable=None, leave=False)
        with bar, tempfile.TemporaryDirectory(dir=cache_root, prefix=".unpacking-") as folder:
            path = Path(folder) / "games.npz"
            gather(path, behaviour, n, epsilon, seed, bar.update)
            dataset = unpack_atari(path, dataset_id, cache_root, key)
    return replace(dataset, digest=content_digest(cache_root, key))


@one_thread()
def gather(
    path: Path,
    behaviour: Behaviour,
    n: int,
    epsilon: float,
    seed: int,
    report: Callable[[int], object],
) -> None:
    """Writes `n` transitions of whole games (the last one is cut) in offrl.data.atari_file's form.

    The policy takes a random action with probability `epsilon`.  report(k) is called after every
    game, of k steps.
    """
    settings = behaviour.settings
    env = make_envs(atari(settings), CHUNK)
    values = OmegaConf.create({**behaviour.algo, "eps_test": epsilon})
    algo = build(values, env.spec.with_batch(CHUNK))
    state = algo.init(generator(0, "init"))
    # policies may be stored in half precision
    state = state._replace(
        **{k: x.to(getattr(state, k).dtype) for k, x in behaviour.tensors.items()}
    )
    address = ("games", settings.game, VERSION, seed)

    def games() -> Iterator[Rows]:
        for game in play(lambda o, z: algo.act(state, o, z), env, algo.act_noise_dim, address, n):
            report(len(game.action))
            yield game

    with closing(env):
        write_games(path, games(), n, origin(behaviour, n, epsilon, seed))


def origin(behaviour: Behaviour, n: int, epsilon: float, seed: int) -> dict[str, Any]:
    """All that decides on the data, and its game's actions: what is recorded with it."""
    return {
        "version": VERSION,
        "env": asdict(behaviour.settings),
        "actions": list(action_names(behaviour.settings.game)),
        "policy_sha256": behaviour.sha256,
        "algo": dict(behaviour.algo),
        "epsilon": epsilon,
        "seed": seed,
        "n": n,
        "numerics": numerics("cpu", 1, False, SIMULATOR),
    }


def check_actions(game: str, recorded: Sequence[str], where: str) -> None:
    """UserError unless the game has the recorded actions."""
    if list(recorded) != list(action_names(game)):
        raise UserError(
            f"{where}: of a game with actions {' '.join(recorded)}, but {game} has "
            f"{' '.join(action_names(game))}; the data needs the emulator that it was made with"
        )


@cache
def _references() -> dict[str, Mapping[str, str]]:
    text = resources.files("offrl.reference").joinpath("atari_refs.csv").read_text(encoding="utf-8")
    return {row["game"]: row for row in csv.DictReader(text.splitlines())}
