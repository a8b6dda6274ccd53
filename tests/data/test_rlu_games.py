"""The 46 games of RL Unplugged."""

import pytest

from offrl.data.rlu_games import GAMES, check_shards, game_named, ranges, shard_name
from offrl.envs.atari import rom_id
from offrl.errors import UserError


def test_the_emulator_has_all_of_them() -> None:
    assert len(GAMES) == len(set(GAMES)) == 46
    for game in GAMES:
        assert game_named(rom_id(game)) == game_named(game.lower()) == game_named(game) == game


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Brekout", "is it Breakout"),
        ("ms_pacmann", "is it MsPacman"),
        ("Q*bert", None),
        ("Montezuma", "has no such Atari game"),
        ("xxxxxxxx", "it has BeamRider, .*YarsRevenge"),
    ],
)
def test_a_wrong_name_suggests_the_nearest(name: str, words: str | None) -> None:
    if words is None:
        assert game_named(name) == "Qbert"
        return
    with pytest.raises(UserError, match=f"game={name}: .*{words}"):
        game_named(name)


@pytest.mark.parametrize(
    ("run", "shards", "words"),
    [
        (0, (0,), "run=0: .*runs 1 to 5"),
        (6, (0,), "run=6"),
        (1, (100,), "100: a run has shards 0 to 99"),
        (1, (-1,), "shards: -1"),
        (1, (), "at least one"),
        (1, (3, 3), "each once"),
    ],
)
def test_runs_and_shards_that_there_are_not(run: int, shards: tuple[int, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_shards(run, shards, "")
    check_shards(5, (99, 0), "")


def test_names() -> None:
    assert shard_name(3, 7) == "run_3-00007-of-00100"
    assert ranges((0, 1, 2, 7, 9, 10)) == "0-2+7+9-10"
