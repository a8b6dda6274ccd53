"""The games of RL Unplugged, by its own names, and how it names their files."""

import difflib
import re

from offrl.errors import UserError

# Gulcehre et al. 2020 (arXiv 2006.13888): nine games to tune on, and 37 to test on
GAMES = """
BeamRider DemonAttack DoubleDunk IceHockey MsPacman Pooyan RoadRunner Robotank Zaxxon

Alien Amidar Assault Asterix Atlantis BankHeist BattleZone Boxing Breakout Carnival Centipede
ChopperCommand CrazyClimber Enduro FishingDerby Freeway Frostbite Gopher Gravitar Hero Jamesbond
Kangaroo Krull KungFuMaster NameThisGame Phoenix Pong Qbert Riverraid Seaquest SpaceInvaders
StarGunner TimePilot UpNDown VideoPinball WizardOfWor YarsRevenge
""".split()  # noqa: SIM905
RUNS = 5  # per game, numbered from 1
SHARDS = 100  # per run, numbered from 0


def game_named(name: str) -> str:
    """RL Unplugged's spelling of a game: MsPacman, ms_pacman, mspacman -> MsPacman.

    Raises UserError, naming the nearest ones, for a game that it does not have.
    """
    known = {_plain(game): game for game in GAMES}
    if found := known.get(_plain(name)):
        return found
    near = [known[n] for n in difflib.get_close_matches(_plain(name), known, cutoff=0.5)]
    hint = f"is it {' or '.join(near)}?" if near else f"it has {', '.join(GAMES)}"
    raise UserError(f"game={name}: RL Unplugged has no such Atari game; {hint}")


def shard_name(run: int, shard: int) -> str:
    return f"run_{run}-{shard:05d}-of-{SHARDS:05d}"


def check_shards(run: int, shards: tuple[int, ...], prefix: str) -> None:
    """UserError, with the key after `prefix`, for what RL Unplugged does not have."""
    if not 1 <= run <= RUNS:
        raise UserError(f"{prefix}run={run}: RL Unplugged has runs 1 to {RUNS}")
    for shard in shards:
        if not 0 <= shard < SHARDS:
            raise UserError(f"{prefix}shards: {shard}: a run has shards 0 to {SHARDS - 1}")
    if not shards or len(set(shards)) < len(shards):
        raise UserError(f"{prefix}shards={list(shards)}: name at least one, and each once")


def ranges(shards: tuple[int, ...]) -> str:
    """(0, 1, 2, 7) -> 0-2+7"""
    parts: list[list[int]] = []
    for shard in shards:
        if parts and shard == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], shard]
        else:
            parts.append([shard])
    return "+".join("-".join(map(str, part)) for part in parts)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())
