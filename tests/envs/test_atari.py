"""Atari games: the preprocessing, seeds, lives, and what is refused."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from numpy.typing import NDArray

from offrl.envs import atari
from offrl.envs.atari import AtariSettings, AtariVector
from offrl.envs.frames import shrink
from offrl.errors import UserError

PONG = AtariSettings(
    game="pong",
    sticky_actions=0.0,
    noop_max=30,
    frame_skip=4,
    fire_reset=True,
    fire_after_life_loss=True,
    episodic_life=False,
    clip_rewards=False,
    max_episode_steps=27000,
)
BREAKOUT = replace(PONG, game="breakout")
PLAIN = replace(PONG, noop_max=0, fire_reset=False, fire_after_life_loss=False)
ONE = np.ones(1, np.bool_)


def play(
    env: AtariVector, seed: int, steps: int, actions: int = 0
) -> tuple[NDArray[np.uint8], list[float]]:
    """Random steps in environment 0: the observations and the rewards."""
    g = np.random.default_rng(actions)
    alive = np.zeros(env.n, np.bool_)
    alive[0] = True
    seen, rewards = [env.reset(0, seed).copy()], []
    for _ in range(steps):
        action = np.full(env.n, g.integers(env.spec.action_dim))
        reward, terminated, truncated = env.step_alive(action, alive)
        seen.append(env.obs[0].copy())
        rewards.append(float(reward[0]))
        if terminated[0] or truncated[0]:
            break
    return np.stack(seen), rewards


def step(env: AtariVector, action: int = 0) -> tuple[float, bool, bool]:
    reward, terminated, truncated = env.step_alive(np.full(env.n, action), ONE)
    return float(reward[0]), bool(terminated[0]), bool(truncated[0])


def test_shrink_is_the_mean_over_areas() -> None:
    g = np.random.default_rng(0)
    for screen in (
        g.integers(256, size=(210, 160), dtype=np.uint8),
        np.full((210, 160), 255, np.uint8),
        np.zeros((210, 160), np.uint8),
    ):
        fine = np.repeat(np.repeat(screen.astype(np.int64), 2, 0), 21, 1)  # 420 x 3360
        sums = fine.reshape(84, 5, 84, 40).sum((1, 3))
        # whole numbers: round half to even without any float
        quotient, rest = np.divmod(sums, 200)
        up = (2 * rest > 200) | ((2 * rest == 200) & (quotient % 2 == 1))
        assert np.array_equal(shrink(screen), quotient + up)


@pytest.mark.parametrize("game", ["pong", "qbert"])
def test_the_preprocessing_is_that_of_the_emulators_own_vector_environment(game: str) -> None:
    ours = AtariVector(replace(PLAIN, game=game), 1)
    theirs: Any = AtariVectorEnv(game, 1, noop_max=0, use_fire_reset=False, reward_clipping=False)
    ours.reset(0, 0)
    theirs.reset(seed=0)
    g = np.random.default_rng(0)
    total = 0.0
    for _ in range(250):
        action = g.integers(ours.spec.action_dim, size=1)
        reward, terminated, _ = ours.step_alive(action, ONE)
        obs, their_reward, their_end, _, _ = theirs.step(action)
        difference = np.abs(ours.obs[0, -1].astype(int) - obs[0, -1])
        assert difference.max() <= 1  # where OpenCV rounds the weights of an area
        assert (difference > 0).sum() <= 2
        assert reward[0] == their_reward[0]
        assert terminated[0] == their_end[0]
        total += abs(reward[0])
    assert total > 0


def test_an_episode_is_determined_by_its_seed_alone() -> None:
    for settings in (PONG, replace(BREAKOUT, sticky_actions=0.25)):
        alone = AtariVector(settings, 1)
        first, rewards = play(alone, 7, 60)
        crowd = AtariVector(settings, 3)
        for i in (1, 2, 0):
            crowd.reset(i, 100 + i)
        crowd.step_alive(np.array([1, 2, 3]), np.ones(3, np.bool_))
        play(crowd, 99, 150, actions=3)  # another game before
        again, same_rewards = play(crowd, 7, 60)
        assert np.array_equal(first, again)
        assert rewards == same_rewards
    other, _ = play(alone, 8, 60)
    assert not np.array_equal(first, other)


def test_the_stack_is_filled_with_the_first_frame_and_moves_by_one() -> None:
    env = AtariVector(PONG, 1)
    seen, _ = play(env, 0, 10)
    assert seen.dtype == np.uint8
    assert seen.shape == (11, 4, 84, 84)
    assert (seen[0] == seen[0, 0]).all()
    assert np.array_equal(seen[1:, :-1], seen[:-1, 1:])
    assert not np.array_equal(seen[-1, -1], seen[-1, 0])


def test_only_what_is_alive_steps() -> None:
    env = AtariVector(PONG, 2)
    env.reset(0, 0)
    env.reset(1, 1)
    before = env.obs.copy()
    for _ in range(30):  # the right paddle moves at once, the ball comes later
        reward, terminated, truncated = env.step_alive(np.array([2, 2]), np.array([False, True]))
    assert np.array_equal(env.obs[0], before[0])
    assert not np.array_equal(env.obs[1], before[1])
    assert reward.dtype == np.float64
    assert not terminated.any()
    assert not truncated.any()


def test_no_ops_vary_the_start() -> None:
    env = AtariVector(PONG, 1)
    assert (
        len({play(env, seed, 60)[0].tobytes() for seed in range(6)}) == 5
    )  # 0 and 2 draw the same
    env = AtariVector(replace(PONG, noop_max=0), 1)
    assert len({play(env, seed, 60)[0].tobytes() for seed in range(3)}) == 1


def test_sticky_actions_follow_the_seed() -> None:
    env = AtariVector(replace(PLAIN, sticky_actions=0.5), 1)
    games = {play(env, seed, 80)[0].tobytes() for seed in (0, 0, 1)}
    assert len(games) == 2


def test_clipped_rewards_have_the_same_signs() -> None:
    settings = replace(PONG, game="qbert")
    raw = play(AtariVector(settings, 1), 0, 200)[1]
    clipped = play(AtariVector(replace(settings, clip_rewards=True), 1), 0, 200)[1]
    assert max(raw) > 1
    assert clipped == [float(np.sign(r)) for r in raw]


def lose_a_life(env: AtariVector) -> None:
    for _ in range(200):
        if step(env)[1]:
            return
    raise AssertionError("no life was lost")


def test_a_life_ends_an_episode_but_not_the_game() -> None:
    env = AtariVector(replace(BREAKOUT, episodic_life=True), 1)
    env.reset(0, 0)
    for lives in (4, 3, 2, 1):
        lose_a_life(env)
        assert env._games[0]._ale.lives() == lives
        stacked = env.reset(0, 123)  # goes on
        assert (stacked == stacked[0]).all()
        assert env._games[0]._ale.lives() == lives
    lose_a_life(env)
    env.reset(0, 123)
    assert env._games[0]._ale.lives() == 5
    begun = env.obs.copy()
    for steps in (0, 1):
        lose_a_life(env)
        env.reset(0, 123)
        for _ in range(steps):
            step(env)
        env.reset(0, 123)  # not after a lost life: a new game, whatever happened before
        assert env._games[0]._ale.lives() == 5
        assert np.array_equal(env.obs, begun)


def test_a_game_without_fire_after_a_lost_life_waits_for_ever() -> None:
    waits = AtariVector(replace(BREAKOUT, fire_after_life_loss=False, max_episode_steps=300), 1)
    waits.reset(0, 0)
    ends = [step(waits) for _ in range(300)]
    assert ends[-1] == (0, False, True)
    assert not any(e[1] or e[2] for e in ends[:-1])
    serves = AtariVector(replace(BREAKOUT, max_episode_steps=300), 1)
    serves.reset(0, 0)
    length = next(k for k in range(300) if step(serves)[1])
    assert length < 200
    assert serves._games[0]._ale.lives() == 0


def test_the_frame_limit_counts_the_whole_game() -> None:
    env = AtariVector(replace(BREAKOUT, episodic_life=True, max_episode_steps=60), 1)
    env.reset(0, 0)
    n = 0
    for _ in range(60):
        n += 1
        _, terminated, truncated = step(env)
        if truncated:
            break
        if terminated:
            env.reset(0, 1)
    assert (n, truncated) == (60, True)
    env.reset(0, 0)  # a new game, which has its whole time
    assert env._games[0]._ale.lives() == 5
    assert not any(step(env)[2] for _ in range(59))
    assert step(env)[2]


def test_a_picture_and_the_actions() -> None:
    env = AtariVector(PONG, 1)
    assert atari.action_names("pong")[:2] == ("NOOP", "FIRE")
    assert env.spec == ((4, 84, 84), 6, 0.0, False)
    env.reset(0, 0)
    assert env.picture(0).shape == (210, 160, 3)
    assert env.per_second == 15
    env.close()


def test_names_of_games() -> None:
    assert replace(PONG, game="MsPacman").game == "ms_pacman"
    assert replace(PONG, game="Qbert").game == "qbert"
    assert replace(PONG, game="UpNDown").game == "up_n_down"
    with pytest.raises(UserError, match=r"env.game=Braekout: .*is it breakout"):
        replace(PONG, game="Braekout")
    with pytest.raises(UserError, match=r"env.game=xyzzy123: there is no such Atari game"):
        replace(PONG, game="xyzzy123")


@pytest.mark.parametrize(
    ("key", "value"),
    [("sticky_actions", 1.0), ("noop_max", -1), ("frame_skip", 0), ("max_episode_steps", 0)],
)
def test_meaningless_settings_are_named(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{key}={value}: "):
        replace(PONG, **{key: value})


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(UserError, match=r"ale-py: not installed; pip install .*\[atari\]"):
        atari.rom_id("pong")
