from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlstab.envs import make_vec
from rlstab.errors import UserError
from rlstab.learning.sequence_config import SequenceConfig
from rlstab.learning.sequence_learner import SequenceLearner
from rlstab.policies.transformer.config import TransformerConfig

ENV = "rlstab/InvertedPendulum-v5"
SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"attention": "softmax", "positions": "alibi", "residual": "plain", "layer_scale": 0.3},
    {"score_bias": "head", "kv_heads": 2, "previous_action": False, "sigma_reparam": True},
    {"score_bias": "window", "positions": "none", "output_norm": True, "qk_norm": False},
    {"window": 1},
    {"observation_change": True, "num_layers": 2},
    {"observation_change": True, "previous_action": False, "window": 1},
    {"separate_critic": True, "observation_change": True, "num_layers": 2},
    {"separate_critic": True, "score_bias": "head", "previous_action": False, "sigma_reparam": True},
)


class Ticks(gymnasium.Env):
    """Noise for observations; episodes of random length end by failure or by a time limit."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space: gymnasium.Space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._noise(), {}

    def step(self, action: Any) -> Any:
        end, kind = self.np_random.random(2)
        ended = end < 0.1
        return self._noise(), float(action == 1), ended and kind < 0.5, ended and kind >= 0.5, {}

    def _noise(self) -> np.ndarray:
        return self.np_random.standard_normal(3).astype(np.float32)


class ContinuousTicks(Ticks):
    action_space = spaces.Box(-1.0, 1.0, (2,))

    def step(self, action: Any) -> Any:
        return super().step(int(action[0] > 0))


class MultiTicks(Ticks):
    action_space = spaces.MultiDiscrete([3, 2])

    def step(self, action: Any) -> Any:
        return super().step(int(action[0]))


def ticks(kind: type[Ticks] = Ticks, count: int = 4) -> SyncVectorEnv:
    return SyncVectorEnv([kind] * count, autoreset_mode=AutoresetMode.SAME_STEP)


def made(kind: type[Ticks] = Ticks, shape: dict[str, Any] | None = None, **settings: Any) -> SequenceLearner:
    settings = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "sequence_length": 8, **settings}
    transformer = TransformerConfig(**{"width": 16, "window": 5, "num_heads": 2, **(shape or {})})
    return SequenceLearner(ticks(kind), SequenceConfig(**settings), transformer, seed=3)


def first_ratios(learner: SequenceLearner) -> torch.Tensor:
    """Probability ratios of all samples, computed by sequences with the weights that acted."""
    samples = learner._samples()
    ratios = []
    for batch in samples.minibatches(torch.arange(samples.count), learner.config.batch_size):
        both = learner.network.encode_both(batch.sequences)
        features, judged = (of[:, batch.context :].flatten(0, 1) for of in both)
        log_probs = learner.network.head(learner.network.actor(features)).log_prob(batch.actions)
        ratios.append((log_probs - batch.log_probs).exp())
        values = learner.network.critic(judged).squeeze(-1)
        torch.testing.assert_close(values, batch.values, rtol=1e-5, atol=1e-5)
    return torch.cat(ratios).detach()


def weights_away_from_the_start(learner: SequenceLearner) -> None:
    """A fresh actor is nearly uniform, which would hide a difference in what it sees."""
    with torch.no_grad():
        learner.network.actor.layers[-1].weight.mul_(100.0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("context", ["recompute", "cached"])
@pytest.mark.parametrize("kind", [Ticks, ContinuousTicks])
def test_all_ratios_are_one_before_the_first_gradient_step(kind: type[Ticks], context: str, shape: Any) -> None:
    learner = made(kind, shape, context=context)
    weights_away_from_the_start(learner)
    for _ in range(3):  # Later rollouts begin in the middle of episodes, with other weights than those before.
        learner.collect()
        ratios = first_ratios(learner)
        torch.testing.assert_close(ratios, torch.ones_like(ratios), rtol=1e-5, atol=1e-5)
        learner.update()


@pytest.mark.parametrize("separate_critic", [False, True])
def test_acting_equals_training_over_a_thousand_steps_with_resets(separate_critic: bool) -> None:
    shape = {"window": 16, "width": 32, "separate_critic": separate_critic}
    learner = made(n_steps=1000, batch_size=1000, sequence_length=250, shape=shape)
    weights_away_from_the_start(learner)
    learner.collect()
    samples = learner._samples()
    apart, values_apart = [], []
    for batch in samples.minibatches(torch.arange(samples.count), 1000):
        both = learner.network.encode_both(batch.sequences)
        features, judged = (of[:, batch.context :].flatten(0, 1) for of in both)
        again = learner.network.head(learner.network.actor(features)).log_prob(batch.actions)
        apart.append((again - batch.log_probs).abs().detach())
        values_apart.append((learner.network.critic(judged).squeeze(-1) - batch.values).abs().detach())
    # The maximum of a tensor is NaN where one entry is, Python's may not be.
    assert float(torch.cat(apart).max()) < 1e-5
    assert float(torch.cat(values_apart).max()) < 1e-5
    assert len(torch.cat(apart)) == 4 * 1000
    assert learner._rollout.dones.sum() > 100


def test_single_numbers_are_learnt_from() -> None:
    class Scalar(Ticks):
        observation_space = spaces.Box(-np.inf, np.inf, ())

        def _noise(self) -> Any:
            return np.float32(self.np_random.standard_normal())

    learner = made(Scalar, {"observation_change": True})
    weights_away_from_the_start(learner)
    learner.iterate()
    learner.collect()
    ratios = first_ratios(learner)
    torch.testing.assert_close(ratios, torch.ones_like(ratios), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("separate_critic", [False, True])
def test_predict_acts_as_training_does(separate_critic: bool) -> None:
    learner = made(ContinuousTicks, {"separate_critic": separate_critic})
    weights_away_from_the_start(learner)
    learner.collect()
    timeline = learner._timeline
    state = None
    for step in range(32):
        starts = timeline.starts[timeline.context + step].numpy()
        if state is not None:
            # What was sampled then is what the network has to believe that it did.
            state.previous = learner.network.head.encode(timeline.previous(step))
        _, state = learner.policy.predict(timeline.observations[step].numpy(), state, starts, deterministic=True)
    for cache, trained in zip(state.caches, learner._memory.caches, strict=True):
        torch.testing.assert_close(cache.k, trained.k, rtol=1e-5, atol=1e-5)


def test_what_came_before_an_episode_makes_no_difference() -> None:
    learner = made()
    learner.collect()
    timeline = learner._timeline
    worlds = torch.arange(4)
    before = timeline.pieces(worlds, timeline.context, 32)
    start = int(before.starts[0, 1:].nonzero()[0]) + 1
    changed = before.observations.clone()
    changed[0, :start] += 1.0
    after = type(before)(changed, before.actions, before.starts, before.steps)
    features, others = learner.network.encode(before), learner.network.encode(after)
    assert torch.equal(features[0, start:], others[0, start:])
    assert not torch.equal(features[0, :start], others[0, :start])


@pytest.mark.parametrize("separate_critic", [False, True])
def test_values_at_time_limits_are_of_the_state_that_was_cut(separate_critic: bool) -> None:
    learner = made(shape={"separate_critic": separate_critic})
    weights_away_from_the_start(learner)
    learner.collect()
    timeline, network = learner._timeline, learner.network
    steps, worlds, final = timeline.truncations()
    found = torch.cat(learner._cut_values)
    assert len(found) == len(steps) > 0
    for step, world, last, value in zip(steps.tolist(), worlds, final, found, strict=True):
        first = step - int(timeline.steps[timeline.context + step, world])
        if first < 0:
            continue  # It began before the rollout.
        observations = torch.cat([timeline.observations[first : step + 1, world], last[None]])
        actions = torch.cat([timeline.actions[first : first + 1, world], timeline.actions[first : step + 1, world]])
        expected = network.value(observations[None], actions[None])[0]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)


def test_sequences_contain_the_whole_rollout_once() -> None:
    learner = made()
    learner.collect()
    samples = learner._samples()
    batches = list(samples.minibatches(torch.randperm(samples.count), 32))
    seen = torch.cat([batch.sequences.observations[:, batch.context :].flatten(0, 1) for batch in batches])
    everything = learner._rollout.observations[:-1].flatten(0, 1)
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, everything.tolist()))


@pytest.mark.parametrize(
    ("optimizer", "separate_critic"), [("adam", False), ("stable_spam", False), ("adam", True)], ids=str
)
@pytest.mark.parametrize("context", ["recompute", "cached"])
def test_it_goes_on_from_a_state_as_if_nothing_had_happened(
    optimizer: str, separate_critic: bool, context: str
) -> None:
    def learner() -> SequenceLearner:
        config = SequenceConfig(
            n_steps=16, batch_size=32, sequence_length=8, optimizer=optimizer, context=context, warmup_steps=100
        )
        shape = TransformerConfig(
            width=16,
            window=5,
            num_heads=2,
            sigma_reparam=True,
            observation_change=True,
            separate_critic=separate_critic,
        )
        return SequenceLearner(make_vec(ENV, num_envs=4), config, shape, seed=1)

    first = learner()
    for _ in range(3):
        first.iterate()
    state = first.state_dict()
    second = learner()
    second.load_state_dict(state)
    for _ in range(2):
        ours, theirs = first.iterate(), second.iterate()
        timing = [name for name in ours if name.startswith("time/")]
        for name in timing:
            del ours[name], theirs[name]
        assert ours == theirs
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name


def test_a_policy_survives_saving_and_loading() -> None:
    from rlstab.policies.loading import policy_from_state

    learner = made(shape={"sigma_reparam": True})
    learner.iterate()
    again = policy_from_state(learner.policy.state_dict())
    observation = np.ones((2, 3), np.float32)
    state = other = None
    for _ in range(3):
        action, state = learner.policy.predict(observation, state, deterministic=True)
        same, other = again.predict(observation, other, deterministic=True)
        assert (action == same).all()
        for cache, twin in zip(state.caches, other.caches, strict=True):
            # Not bit for bit: a learner's weights lie elsewhere in memory, which products may round by.
            torch.testing.assert_close(cache.k, twin.k, rtol=1e-6, atol=1e-6)


class Cue(gymnasium.Env):
    """Show one of two cues, then nothing for four steps; the right answer at the end is the cue."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.cue, self.time = int(self.np_random.integers(2)), 0
        return np.array([1.0 - 2.0 * self.cue, 0.0], np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        done = self.time == 5
        reward = float(done and action == self.cue)
        return np.array([0.0, self.time / 5], np.float32), reward, done, False, {}


@pytest.mark.parametrize("attention", ["sigmoid", "softmax"])
def test_it_learns_what_needs_a_memory(attention: Any) -> None:
    def learner(window: int) -> SequenceLearner:
        env = SyncVectorEnv([Cue] * 16, autoreset_mode=AutoresetMode.SAME_STEP)
        config = SequenceConfig(
            n_steps=40, batch_size=320, n_epochs=4, learning_rate=3e-3, normalize_observation=False, ent_coef=0.01
        )
        shape = TransformerConfig(width=16, num_heads=2, num_layers=1, window=window, attention=attention)
        return SequenceLearner(env, config, shape, seed=0)

    memory, none = learner(8), learner(1)
    for _ in range(25):
        with_memory, without = memory.iterate(), none.iterate()
    assert with_memory["rollout/return_mean"] > 0.95
    assert without["rollout/return_mean"] < 0.75


def test_warm_up_raises_the_learning_rate_to_its_value() -> None:
    learner = made(warmup_steps=300, learning_rate=1e-3)
    rates = [learner.iterate()["train/learning_rate"] for _ in range(3)]
    assert rates == pytest.approx([1e-3 * 128 / 300, 1e-3 * 256 / 300, 1e-3])


@pytest.mark.parametrize("kind", [Ticks, MultiTicks])
def test_z_loss_pulls_logits_together(kind: type[Ticks]) -> None:
    def size(z_loss: float) -> float:
        learner = made(kind, z_loss=z_loss, n_epochs=8, learning_rate=1e-2, shape={"previous_action": False})
        with torch.no_grad():
            learner.network.actor.layers[-1].bias.fill_(5.0)
        learner.iterate()
        return float(learner.network.actor.layers[-1].bias.detach().mean())

    assert size(1.0) < size(0.0) - 0.1


def test_attention_is_watched_as_often_as_asked() -> None:
    learner = made(monitor_every=2)
    first, second = learner.iterate(), learner.iterate()
    assert not any(name.startswith("attention/") for name in first)
    assert 0.0 < second["attention/layer0_head1/mass"] < 10.0
    assert second["attention/layer1/spectral_norm_query"] > 0.0
    assert second["attention/layer0/gradient_norm_key"] > 0.0
    assert not any(name.startswith("attention/critic") for name in second)
    assert all(np.isfinite(value) for value in second.values())


def test_attention_of_the_critics_own_transformer_is_watched_too() -> None:
    metrics = made(monitor_every=1, shape={"separate_critic": True}).iterate()
    assert 0.0 < metrics["attention/critic_layer0_head1/mass"] < 10.0
    assert metrics["attention/critic_layer1/gradient_norm_value"] > 0.0
    assert metrics["attention/critic_layer0/spectral_norm_key"] != metrics["attention/layer0/spectral_norm_key"]


def test_the_values_loss_moves_what_acts_only_if_they_share_a_transformer() -> None:
    def moved(separate_critic: bool) -> dict[str, bool]:
        learner = made(shape={"separate_critic": separate_critic})
        learner.collect()
        learner._flat.gradient.zero_()
        batch = next(learner._samples().minibatches(torch.arange(16), 128))
        # Without advantages the policy's own loss has no gradient.
        batch.advantages.zero_()
        learner._gradient(batch)
        return {name: bool(part.grad.any()) for name, part in learner.network.named_parameters()}

    shared, apart = moved(False), moved(True)
    acting = [name for name in shared if not name.startswith("critic")]
    assert any(shared[name] for name in acting)
    assert not any(apart[name] for name in acting)
    assert apart["critic_encoder.embedding.weight"]
    assert apart["critic_encoder.transformer.blocks.0.attention.query.weight"]


def test_the_critics_own_transformer_leaves_the_actors_first_weights_alone() -> None:
    """So that runs with and without it begin with one policy."""
    shared, apart = (made(shape={"separate_critic": own}).network for own in (False, True))
    for name, value in shared.state_dict().items():
        assert torch.equal(value, apart.state_dict()[name]), name
    assert apart.critic_encoder is not None
    assert not torch.equal(apart.embedding.weight, apart.critic_encoder.embedding.weight)


@pytest.mark.parametrize("optimizer", ["adam", "stable_spam"])
def test_gradients_are_watched_as_the_loss_left_them(optimizer: str) -> None:
    """Both optimisers scale them: a clip this small would hide any."""
    settings = {"monitor_every": 1, "n_epochs": 1, "batch_size": 128, "sequence_length": 32, "optimizer": optimizer}
    clipped, free = (made(max_grad_norm=norm, **settings).iterate() for norm in (1e-6, 1e6))
    name = "attention/layer0/gradient_norm_value"
    assert clipped[name] == pytest.approx(free[name], rel=1e-6)
    assert clipped["train/gradient_norm"] > clipped[name] > 1e-4


def test_rows_are_watched_with_all_that_they_see() -> None:
    class Endless(Ticks):
        def step(self, action: Any) -> Any:
            return self._noise(), 0.0, False, False, {}

    learner = made(Endless, monitor_every=1, shape={"num_layers": 1})
    first, second = learner.iterate(), learner.iterate()
    # Four of 32 rows see less than the window at an episode's beginning, none later.
    assert first["attention/layer0_head0/visible_keys"] == pytest.approx((1 + 2 + 3 + 4 + 28 * 5) / 32)
    assert second["attention/layer0_head0/visible_keys"] == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sequence_length": 7}, "sequence_length 7 does not divide n_steps 32"),
        ({"batch_size": 4}, "batch_size 4 is no multiple of 8"),
        ({"batch_size": 48}, "batch_size 48 does not divide 128 samples"),
        ({"optimizer": "adamw"}, "optimizer is 'adamw', but must be"),
        ({"context": "cach"}, "context is 'cach', but must be"),
        ({"warmup_steps": -1}, "warmup_steps is -1, but must be at least 0"),
        ({"shape": {"attention": "sofmax"}}, "attention is 'sofmax', but must be"),
        ({"shape": {"residual": "gated"}}, "residual is 'gated', but must be"),
        ({"shape": {"width": 15}}, "width must be a multiple of num_heads"),
        ({"shape": {"num_heads": 4, "kv_heads": 3}}, "num_heads must be a multiple of kv_heads"),
        ({"n_steps": 0}, "n_steps is 0, but must be at least 1"),
        ({"shape": {"width": 10**8}}, r"head dimension is \d+, from width 100000000"),
        ({"shape": {"width": 2**15, "num_heads": 256, "num_layers": 64}}, "weights of width 32768, num_layers 64 and"),
        ({"shape": {"window": 10**10}}, r"window 10000000000, num_layers \d and 4 worlds take at least"),
        ({"shape": {"attention": "softmax", "score_bias": "head"}}, "score_bias head is of sigmoid's scores"),
        ({"shape": {"attention": "softmax", "score_bias": "window"}}, "score_bias window is of sigmoid's scores"),
        ({"shape": {"residual": "plain", "gate_bias": 1.0}}, "gate_bias is of the gate of residual gru"),
        ({"warmup_steps": 1_000_001}, "warmup_steps 1000001 is more than the total_steps 1000000"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        made(**settings)


def test_softmax_may_be_told_that_it_has_no_bias() -> None:
    made(shape={"attention": "softmax", "score_bias": "none"})


def test_z_loss_needs_logits() -> None:
    with pytest.raises(UserError, match="z_loss is for Discrete and MultiDiscrete actions"):
        made(ContinuousTicks, z_loss=0.1)


def test_changes_are_normalised_by_what_they_are_within_episodes() -> None:
    class Wanderer(Ticks):
        """Moves little from step to step, from starts that are far apart."""

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            gymnasium.Env.reset(self, seed=seed)
            self._at = 10.0 * self.np_random.standard_normal(3)
            return self._seen(), {}

        def step(self, action: Any) -> Any:
            self._at = self._at + np.array([0.1, 0.2, 0.3]) * (1.0 + 5.0 * self.np_random.standard_normal(3))
            ended = bool(self.np_random.random() < 0.1)
            return self._seen(), 0.0, ended, False, {}

        def _seen(self) -> np.ndarray:
            return self._at.astype(np.float32)

    learner = made(Wanderer, {"observation_change": True}, learning_rate=1e-9)
    changes = []
    for _ in range(3):
        learner.iterate()
        timeline = learner._timeline
        rows = torch.cat([timeline.newest_before[None], timeline.observations[:-1]]).double()
        begins = timeline.starts[timeline.context : -1]
        changes.append(rows.diff(dim=0)[~begins])
    seen = torch.cat(changes)
    statistics = learner.network.change_normalizer
    assert statistics is not None
    # The prior weighs 1e-4 samples.
    torch.testing.assert_close(statistics.mean, seen.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(statistics.var, seen.var(0, correction=0), rtol=1e-3, atol=1e-3)
    # Had the jumps between episodes been counted, they would dwarf everything.
    assert (rows.diff(dim=0)[begins].var(0) > 10.0 * statistics.var).all()


@pytest.mark.parametrize("kind", [MultiTicks, ContinuousTicks])
def test_rollouts_of_one_step_have_changes_too(kind: type[Ticks]) -> None:
    learner = made(kind, {"observation_change": True}, n_steps=1, sequence_length=1, batch_size=4)
    for _ in range(3):
        learner.iterate()
    assert learner.network.change_normalizer is not None
    assert all(value.isfinite().all() for value in learner.network.state_dict().values())
    assert float(learner.network.change_normalizer.count) > 1.0
