"""The card games against plain ones written after their rules, and the returns that are known for them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from rlstab.envs.memory import make_task
from rlstab.envs.memory.repeat import RepeatFirst, RepeatPrevious
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError

PREVIOUS = {"Easy": (1, 4), "Medium": (2, 32), "Hard": (3, 64)}
FIRST = {"Easy": 1, "Medium": 8, "Hard": 16}
IDS = [f"rlstab/Repeat{kind}{level}-v0" for kind in ("Previous", "First") for level in PREVIOUS]


def play(env: Any, policy: Any, episodes: int = 1) -> np.ndarray:
    """Returns ``(episodes, num_envs)``; the policy is called with the suits seen so far, ``(steps, worlds)``."""
    observation, _ = env.reset()
    returns = np.zeros((episodes, env.num_envs))
    for episode in range(episodes):
        seen: list[np.ndarray] = []
        for step in range(env.task.horizon):
            np.testing.assert_array_equal(observation.sum(axis=1), 1.0)
            seen.append(observation.argmax(axis=1))
            observation, reward, terminated, truncated, _ = env.step(policy(seen))
            returns[episode] += reward
            assert terminated.all() == terminated.any() == (step == env.task.horizon - 1)
            assert not truncated.any()
    return returns


@pytest.mark.parametrize("env_id", IDS)
def test_who_remembers_everything_gets_1_and_who_says_something_else_minus_1(env_id: str) -> None:
    env: Any = make_vec(env_id, 4, seed=1)
    back = env.task.k if isinstance(env.task, RepeatPrevious) else None

    def remember(seen: list[np.ndarray]) -> np.ndarray:
        if back is None:
            return seen[0]
        return seen[-back] if len(seen) >= back else np.zeros(4, np.int64)

    np.testing.assert_allclose(play(env, remember, 2), 1.0, rtol=1e-12)
    np.testing.assert_allclose(play(env, lambda seen: (remember(seen) + 1) % 4), -1.0, rtol=1e-12)


@pytest.mark.parametrize("env_id", IDS)
def test_rewards_are_those_of_the_plain_game(env_id: str) -> None:
    """Random actions, with the cards that were seen as the only source."""
    env: Any = make_vec(env_id, 3, seed=2)
    cards = 52 * env.task.num_decks
    rng = np.random.default_rng(0)
    observation, _ = env.reset()
    dealt: list[list[int]] = [[int(row.argmax())] for row in observation]
    for step in range(cards - 1):
        actions = rng.integers(4, size=3)
        observation, reward, terminated, _, infos = env.step(actions)
        for world, hand in enumerate(dealt):
            if isinstance(env.task, RepeatFirst):
                asked, scale = hand[0], 1 / (cards - 1)
            else:
                asked, scale = (hand[-env.task.k] if len(hand) >= env.task.k else None), 1 / (cards - env.task.k)
            expected = 0.0 if asked is None else scale if actions[world] == asked else -scale
            assert reward[world] == expected
        shown = infos["final_obs"] if terminated.any() else observation
        for world, hand in enumerate(dealt):
            hand.append(int(shown[world].argmax()))
        assert terminated.all() == (step == cards - 2)
    # Whole decks were dealt, not suits drawn with replacement.
    for hand in dealt:
        assert Counter(hand) == dict.fromkeys(range(4), cards // 4)


@pytest.mark.parametrize("level", PREVIOUS)
def test_previous_is_worth_what_is_said_to_who_sees_only_the_newest_card(level: str) -> None:
    """Any other suit is the best guess; naming the newest card's own is worse."""
    decks, _ = PREVIOUS[level]
    cards = 52 * decks
    best, worse = (2 * likely / (cards - 1) - 1 for likely in (cards / 4, cards / 4 - 1))
    env = make_vec(f"rlstab/RepeatPrevious{level}-v0", 64, seed=3)
    other, same = (play(env, lambda seen, add=add: (seen[-1] + add) % 4, 10) for add in (1, 0))
    for returns, expected in ((other, best), (same, worse)):
        assert abs(returns.mean() - expected) < 4 * returns.std() / np.sqrt(returns.size)
    assert best < -0.48
    assert best > worse


@pytest.mark.parametrize("level", FIRST)
def test_first_is_worth_what_is_said_to_who_sees_only_the_newest_card(level: str) -> None:
    """Naming the newest card is right once for sure, and then as seldom as another of that suit was the first."""
    cards = 52 * FIRST[level]
    steps = cards - 1
    repeat = 2 * (1 + (steps - 1) * (cards / 4 - 1) / (cards - 1)) / steps - 1
    other = 2 * (steps - 1) * (cards / 4) / (cards - 1) / steps - 1
    env = make_vec(f"rlstab/RepeatFirst{level}-v0", 64, seed=3)
    for add, expected in ((0, repeat), (1, other)):
        returns = play(env, lambda seen, add=add: (seen[-1] + add) % 4, 4 if cards > 400 else 20)
        assert abs(returns.mean() - expected) < 4 * returns.std() / np.sqrt(returns.size)
    assert max(repeat, other) < -0.48


def test_the_difficulties_are_popgyms() -> None:
    for level, (decks, k) in PREVIOUS.items():
        assert make_task(f"rlstab/RepeatPrevious{level}-v0") == RepeatPrevious(num_decks=decks, k=k)
    for level, decks in FIRST.items():
        assert make_task(f"rlstab/RepeatFirst{level}-v0") == RepeatFirst(num_decks=decks)
    assert make_task("rlstab/RepeatPreviousMedium-v0", k=7) == RepeatPrevious(num_decks=2, k=7)


def test_every_order_of_the_cards_can_come() -> None:
    """Each place of the deck has every suit equally often, and neighbours repeat as seldom as without replacement."""
    draws = np.array([RepeatFirst().draw(np.random.default_rng(seed)) for seed in range(2000)])
    for suit in range(4):
        assert (np.abs((draws == suit).mean(axis=0) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)).all()
    assert (draws[:, 1:] == draws[:, :-1]).mean() == pytest.approx(12 / 51, abs=0.01)


def test_more_cards_to_remember_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="RepeatPrevious: k must be less than the number of cards, 52, got 52"):
        make_vec("rlstab/RepeatPreviousEasy-v0", env_kwargs={"k": 52})
