from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstab.errors import UserError
from rlstab.runs.config import from_json, to_json, validate


class Activation(Enum):
    TANH = "tanh"
    RELU = "relu"


@dataclass(frozen=True)
class Push:
    force: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0), metadata={"infinite": True})
    start_s: float = field(default=0.0, metadata={"min": 0, "unit": "s"})


@dataclass(frozen=True)
class Noise:
    sigma: float = field(default=0.1, metadata={"above": 0.0})


@dataclass(frozen=True)
class Network:
    hidden: tuple[int, ...] = field(default=(64, 64), metadata={"min": 1})
    activation: Activation = Activation.TANH


@dataclass(frozen=True)
class Config:
    env: str
    seed: int = field(default=0, metadata={"min": 0})
    learning_rate: float = field(default=3e-4, metadata={"above": 0.0, "below": 1.0, "unit": "1/step"})
    clip: float | None = field(default=0.2, metadata={"min": 0.0, "infinite": True})
    max_norm: float = field(default=0.5, metadata={"infinite": True})
    schedule: Literal["constant", "linear"] = "constant"
    entropy: float | Literal["auto"] = field(default="auto", metadata={"min": 0.0})
    device: str = field(default="cpu", metadata={"choices": ("cpu", "cuda")})
    normalise: bool = True
    folder: Path = Path("runs")
    network: Network = field(default_factory=Network)
    disturbances: tuple[Push | Noise, ...] = ()
    env_kwargs: dict[str, Any] = field(default_factory=dict, metadata={"infinite": True})
    weights: dict[str, float] = field(default_factory=dict, metadata={"infinite": True})
    curriculum: list[list[int]] = field(default_factory=list)


floats = st.floats(allow_nan=False)
pushes = st.builds(Push, force=st.tuples(floats, floats, floats), start_s=st.floats(0, 1e9))
configs = st.builds(
    Config,
    env=st.text(),
    seed=st.integers(0),
    learning_rate=st.floats(1e-9, 0.999),
    clip=st.none() | st.floats(0, allow_nan=False),
    max_norm=floats,
    schedule=st.sampled_from(["constant", "linear"]),
    entropy=st.just("auto") | st.floats(0, 1e9),
    device=st.sampled_from(["cpu", "cuda"]),
    normalise=st.booleans(),
    folder=st.sampled_from([Path("runs"), Path("/tmp/a b")]),
    network=st.builds(
        Network, hidden=st.lists(st.integers(1), max_size=3).map(tuple), activation=st.sampled_from(Activation)
    ),
    disturbances=st.lists(pushes | st.builds(Noise, sigma=st.floats(1e-9, 1e9)), max_size=3).map(tuple),
    env_kwargs=st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.text(max_size=3), max_size=2),
    weights=st.dictionaries(st.text(max_size=3), floats, max_size=2),
    curriculum=st.lists(st.lists(st.integers(), max_size=2), max_size=2),
)


@given(configs)
def test_from_json_inverts_to_json(config: Config) -> None:
    validate(config)
    assert from_json(Config, json.loads(json.dumps(to_json(config), allow_nan=False))) == config


def test_what_is_not_named_keeps_its_default() -> None:
    assert from_json(Config, {"env": "Hopper-v5"}) == Config("Hopper-v5")


def test_a_whole_number_may_stand_for_a_number() -> None:
    config = from_json(
        Config, {"env": "x", "max_norm": 1, "clip": 2, "disturbances": [{"type": "Push", "force": [1, 0, 0]}]}
    )
    assert (config.max_norm, config.clip) == (1.0, 2.0)
    assert type(config.max_norm) is float
    assert config.disturbances == (Push((1.0, 0.0, 0.0)),)


NO_NOISE = {"type": "Noise", "sigma": 0}
FLAT_PUSH = {"type": "Push", "force": [1, 2]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "Config.env is missing"),
        ({"env": "x", "learning_rte": 1}, "Config has no setting 'learning_rte'; did you mean 'learning_rate'?"),
        ({"env": "x", "zzz": 1}, "Config has no setting 'zzz'; there are: env, seed"),
        ({"env": 3}, "Config.env is 3, but must be text"),
        ({"env": "x", "seed": 1.5}, "Config.seed is 1.5, but must be a whole number"),
        ({"env": "x", "seed": 1e6}, "Config.seed is 1000000.0, but must be a whole number; write 1000000"),
        ({"env": "x", "seed": "1e6"}, "Config.seed is '1e6', but must be a whole number; write 1000000"),
        ({"env": "x", "seed": True}, "Config.seed is True, but must be a whole number"),
        ({"env": "x", "seed": -1}, "Config.seed is -1, but must be at least 0"),
        ({"env": "x", "learning_rate": "3e-4"}, "Config.learning_rate is '3e-4', but must be a number; write 0.0003"),
        ({"env": "x", "learning_rate": "1e-5"}, "but must be a number; write 1.0e-05"),
        ({"env": "x", "learning_rate": 0}, "Config.learning_rate is 0.0, but must be greater than 0.0 1/step"),
        ({"env": "x", "learning_rate": 1}, "Config.learning_rate is 1.0, but must be less than 1.0 1/step"),
        ({"env": "x", "learning_rate": math.nan}, "Config.learning_rate is NaN, but must be a number"),
        ({"env": "x", "clip": "a"}, "Config.clip is 'a', but must be a number or nothing"),
        ({"env": "x", "schedule": "cosine"}, "Config.schedule is 'cosine', but must be one of 'constant', 'linear'"),
        ({"env": "x", "entropy": "manual"}, "Config.entropy is 'manual', but must be a number or one of 'auto'"),
        ({"env": "x", "entropy": -0.5}, "Config.entropy is -0.5, but must be at least 0.0"),
        ({"env": "x", "device": "tpu"}, "Config.device is 'tpu', but must be one of 'cpu', 'cuda'"),
        ({"env": "x", "normalise": 1}, "Config.normalise is 1, but must be true or false"),
        ({"env": "x", "network": {"hidden": [64, 0]}}, "Config.network.hidden[1] is 0, but must be at least 1"),
        ({"env": "x", "network": {"hidden": [64, "a"]}}, "Config.network.hidden[1] is 'a', but must be a whole number"),
        ({"env": "x", "network": {"hiden": [64]}}, "Config.network has no setting 'hiden'; did you mean 'hidden'?"),
        ({"env": "x", "network": {"activation": "gelu"}}, "activation is 'gelu', but must be one of 'tanh', 'relu'"),
        ({"env": "x", "network": 3}, "Config.network is 3, but must be a Network"),
        ({"env": "x", "disturbances": [{"sigma": 1}]}, "disturbances[0] must name its \"type\", one of: Push, Noise"),
        ({"env": "x", "disturbances": [NO_NOISE]}, "disturbances[0].sigma is 0.0, but must be greater than 0.0"),
        ({"env": "x", "disturbances": [FLAT_PUSH]}, "[0].force is [1, 2], but must be a list of a number, a number"),
        ({"env": "x", "weights": {"a": "b"}}, "Config.weights['a'] is 'b', but must be a number"),
        ({"env": "x", "curriculum": [[1], [2, None]]}, "Config.curriculum[1][1] is None, but must be a whole number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_json(Config, data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_something_else_than_a_table_is_refused() -> None:
    with pytest.raises(UserError, match="Config is 3, but must be a table"):
        from_json(Config, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 2.0}, "Config.learning_rate is 2.0, but must be less than 1.0"),
        ({"learning_rate": "fast"}, "Config.learning_rate is 'fast', but must be a number"),
        ({"network": Network(hidden=(0,))}, "Config.network.hidden[0] is 0, but must be at least 1"),
        ({"network": Network(hidden=[64])}, "Config.network.hidden is [64], but must be a list of a whole number"),  # type: ignore[arg-type]
        ({"disturbances": (Push(start_s=-1.0),)}, "Config.disturbances[0].start_s is -1.0, but must be at least 0 s"),
        ({"max_norm": math.nan}, "Config.max_norm is NaN"),
    ],
)
def test_validate_checks_what_python_built(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(dataclasses.replace(Config("x"), **changes))
    assert message in str(caught.value)


def test_numbers_are_finite_unless_the_field_says_otherwise() -> None:
    @dataclasses.dataclass(frozen=True)
    class Limits:
        rate: float = field(default=1.0, metadata={"above": 0.0})
        ranges: dict[str, tuple[float, float]] = field(default_factory=dict, metadata={"infinite": True})

    validate(Limits(ranges={"height": (0.7, math.inf)}))
    for infinity in (math.inf, -math.inf):
        with pytest.raises(UserError, match=r"Limits\.rate is -?inf, but must be finite"):
            validate(Limits(rate=infinity))
    with pytest.raises(UserError, match=r"Limits\.rate is inf, but must be finite"):
        from_json(Limits, {"rate": "inf"})


@pytest.mark.parametrize(
    ("least", "unit", "expected"),
    [
        (1, "worlds", "at least 1 world"),
        (2, "worlds", "at least 2 worlds"),
        (1, "environment steps", "at least 1 environment step"),
        (1, "steps of every world", "at least 1 step of every world"),
        (1, "s", "at least 1 s"),
        (1.0, "reward per nat", "at least 1.0 reward per nat"),
    ],
)
def test_one_of_a_unit_is_singular(least: float, unit: str, expected: str) -> None:
    made = dataclasses.make_dataclass("Made", [("n", float, field(default=0, metadata={"min": least, "unit": unit}))])
    with pytest.raises(UserError) as caught:
        validate(made())
    assert str(caught.value).endswith(expected)


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        to_json(dataclasses.replace(Config("x"), env_kwargs={"a": {1}}))
