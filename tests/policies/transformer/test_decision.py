from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rlstab.errors import UserError
from rlstab.policies.transformer.config import TransformerConfig
from rlstab.policies.transformer.decision import DecisionTransformer, returns_to_go

STATE, ACTION = 4, 2


def made(**shape: Any) -> DecisionTransformer:
    config = TransformerConfig(**{"width": 16, "num_heads": 2, "window": 3, **shape})
    model = DecisionTransformer(STATE, ACTION, config, max_steps=50, return_scale=10.0)
    with torch.no_grad():
        model.action.weight.mul_(100.0)
    return model.double()


def trajectories(batch: int = 3, length: int = 24) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, length, *shape, generator=generator, dtype=torch.float64)

    starts = torch.rand(batch, length, generator=generator) < 0.15
    starts[:, 0] = True
    index = torch.arange(length).expand(batch, length)
    steps = index - torch.where(starts, index, 0).cummax(1).values
    return {"returns": 10 * noise(), "states": noise(STATE), "actions": noise(ACTION), "steps": steps}


SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"attention": "softmax", "positions": "none", "residual": "plain"},
    {"positions": "alibi", "score_bias": "window", "sigma_reparam": True},
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_acting_step_by_step_is_reading_the_trajectory(shape: dict[str, Any]) -> None:
    model, data = made(**shape), trajectories()
    whole = model(**data)
    memory = model.empty_memory(3)
    for step in range(24):
        memory.begin(data["steps"][:, step] == 0)
        found = model.act(data["returns"][:, step], data["states"][:, step], memory)
        torch.testing.assert_close(found, whole[:, step], rtol=1e-9, atol=1e-9)
        model.acted(data["actions"][:, step], memory)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_cut_with_its_context_gives_the_same_actions(shape: dict[str, Any]) -> None:
    model, data = made(**shape), trajectories(length=40)
    whole = model(**data)
    first = 25
    cut = {name: value[:, first - model.context :] for name, value in data.items()}
    torch.testing.assert_close(model(**cut)[:, model.context :], whole[:, first:], rtol=1e-9, atol=1e-9)


def test_an_action_is_not_seen_by_its_own_prediction_nor_by_earlier_ones() -> None:
    model, data = made(window=8), trajectories()
    before = model(**data)
    data["actions"] = data["actions"].clone()
    data["actions"][0, 5] += 1.0
    moved = (model(**data) != before).any(2)
    assert not moved[0, :6].any()
    assert moved[0, 6] == (data["steps"][0, 6] != 0)
    assert not moved[1:].any()


def test_cuts_of_episodes_in_one_row_do_not_see_each_other() -> None:
    model, data = made(window=8), trajectories()
    length = data["steps"].shape[1]
    half = length // 2
    data["steps"] = torch.cat([torch.arange(5, 5 + half), torch.arange(3, 3 + length - half)]).expand(
        len(data["steps"]), -1
    )
    before = model(**data)
    moved = {name: values.clone() for name, values in data.items()}
    for name in ("returns", "states", "actions"):
        moved[name][:, :half] += 1.0
    torch.testing.assert_close(model(**moved)[:, half:], before[:, half:], rtol=0, atol=0)


def test_returns_states_and_actions_all_matter() -> None:
    model, data = made(), trajectories()
    before = model(**data)
    for name in ("returns", "states", "actions"):
        other = {**data, name: data[name] + 1.0}
        assert not torch.allclose(model(**other), before), name


def test_it_learns_to_repeat_what_the_return_asks_for() -> None:
    """The right action is the sign of the return-to-go times the first state entry: both tokens are needed."""
    torch.manual_seed(0)
    config = TransformerConfig(width=32, num_heads=2, window=4, num_layers=1)
    model = DecisionTransformer(1, 1, config, max_steps=10)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    steps = torch.arange(8).expand(32, 8)
    losses = []
    for _ in range(150):
        returns, states = torch.randn(32, 8).sign(), torch.randn(32, 8, 1).sign()
        wanted = returns[..., None] * states
        loss = (model(returns, states, wanted, steps) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.8
    assert losses[-1] < 0.05


def test_too_long_episodes_are_refused() -> None:
    model, data = made(), trajectories()
    data["steps"] = data["steps"] + 49
    with pytest.raises(UserError, match="is not below max_steps 50"):
        model(**data)
    data["steps"] = data["steps"] - 60
    with pytest.raises(UserError, match="steps count from 0"):
        model(**data)
    with pytest.raises(UserError, match="return_scale must be a number above 0, got 0"):
        DecisionTransformer(1, 1, TransformerConfig(), return_scale=0.0)
    with pytest.raises(UserError, match="state_dim must be at least 1"):
        DecisionTransformer(0, 1, TransformerConfig())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"returns": torch.zeros(3, 24, 1)}, r"returns must have shape \(3, 24\), got \(3, 24, 1\)"),
        ({"states": torch.zeros(3, 24, 3)}, r"states must have shape \(3, 24, 4\), got \(3, 24, 3\)"),
        ({"actions": torch.zeros(1, 24, 2)}, r"actions must have shape \(3, 24, 2\), got \(1, 24, 2\)"),
        ({"steps": torch.arange(24)}, r"steps must be \(B, T\) whole numbers, got \(24,\) torch.int64"),
        ({"steps": torch.zeros(3, 24)}, r"got \(3, 24\) torch.float32"),
        ({"steps": [[0]]}, "steps must be a torch tensor, got list"),
        ({"states": torch.zeros(3, 24, 4)}, "states must be torch.float64 as the weights, got torch.float32"),
    ],
    ids=str,
)
def test_trajectories_that_do_not_fit_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        made()(**{**trajectories(), **change})


def test_what_is_refused_while_acting_is_not_remembered() -> None:
    model = made()
    memory, one = model.empty_memory(2), torch.zeros(2, STATE, dtype=torch.float64)
    for returns, states, words in (
        (torch.zeros(3).double(), one, r"returns must have shape \(2,\), got \(3,\)"),
        (torch.zeros(2).double(), one[:, :3], r"states must have shape \(2, 4\), got \(2, 3\)"),
    ):
        with pytest.raises(UserError, match=words):
            model.act(returns, states, memory)
    with pytest.raises(UserError, match=r"actions must have shape \(2, 2\), got \(1, 2\)"):
        model.acted(torch.zeros(1, ACTION).double(), memory)
    with pytest.raises(UserError, match="memory must be what empty_memory gives, got NoneType"):
        model.act(torch.zeros(2).double(), one, None)  # pyright: ignore[reportArgumentType]
    memory.caches.pop()
    with pytest.raises(UserError, match="caches must be one a layer, 2, got 1"):
        model.act(torch.zeros(2).double(), one, memory)
    assert not any(cache.count.any() for cache in memory.caches)
    assert not memory.steps.any()


def test_nothing_is_read_to_nothing() -> None:
    model = made()
    for batch, length in ((0, 5), (2, 0)):
        data = {name: value[:batch, :length] for name, value in trajectories().items()}
        assert model(**data).shape == (batch, length, ACTION)
    memory = model.empty_memory(0)
    assert model.act(torch.zeros(0).double(), torch.zeros(0, STATE).double(), memory).shape == (0, ACTION)
    assert returns_to_go(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).shape == (2, 0)


def test_sizes_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError, match=r"max_steps must be a whole number, got 2\.5"):
        DecisionTransformer(1, 1, TransformerConfig(), max_steps=2.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="return_scale must be a number, got str"):
        DecisionTransformer(1, 1, TransformerConfig(), return_scale="a")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"rewards and starts must have one shape \(B, T\)"):
        returns_to_go(torch.ones(1, 5), torch.ones(1, 4, dtype=torch.bool))


def test_returns_end_with_their_episodes() -> None:
    starts = torch.tensor([[True, False, False, True, False]])
    assert returns_to_go(torch.ones(1, 5), starts).tolist() == [[3.0, 2.0, 1.0, 2.0, 1.0]]
