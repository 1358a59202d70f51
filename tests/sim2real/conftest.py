"""A small exported controller made without torch, a clock that only moves when told, and a robot made of a script."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rlstab.sim2real.artefact import write_artefact
from rlstab.sim2real.contract import (
    ActionLayout,
    Actuator,
    Contract,
    Joint,
    Layout,
    ObservationField,
    ObservationLayout,
    TestVector,
    Training,
)
from rlstab.sim2real.robot import EndReason, Reading

WEIGHT = np.array([[0.5, -0.25, 0.125]], np.float32)
"""The network of these tests: ``clip(observation @ WEIGHT.T, -1, 1)``."""


def make_network(weight: NDArray[np.float32] = WEIGHT) -> bytes:
    nodes = [
        helper.make_node("Gemm", ["observation", "weight"], ["linear"], transB=1),
        helper.make_node("Clip", ["linear", "low", "high"], ["action"]),
    ]
    weights = {"weight": weight, "low": np.float32(-1), "high": np.float32(1)}
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def make_contract(network: bytes) -> Contract:
    observations = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    actions = np.clip(observations @ WEIGHT.T, -1, 1)
    layout = Layout(
        env_id="Cart-v0",
        control_dt=0.02,
        physics_dt=0.005,
        decimation=4,
        joints=(Joint("slider", "slide", (0.0,), (-1.0, 1.0)), Joint("hinge", "hinge", (0.1,))),
        actuators=(Actuator("motor", "slider", "torque", (-1.0, 1.0), 100.0, 100.0),),
        observation=ObservationLayout(
            (3,), "float64", (ObservationField("position", 2, "m"), ObservationField("velocity", 1, "m/s"))
        ),
        action=ActionLayout("torque", (1,), "float32", (100.0,), (0.0,), (-1.0,), (1.0,)),
    )
    pairs = zip(observations, actions, strict=True)
    return Contract(
        layout=layout,
        policy_type="feedforward",
        training=Training("Cart-v0"),
        opset=18,
        sha256=hashlib.sha256(network).hexdigest(),
        test_vectors=tuple(TestVector(tuple(x.tolist()), tuple(y.tolist())) for x, y in pairs),
    )


@pytest.fixture
def network() -> bytes:
    return make_network()


@pytest.fixture
def contract(network: bytes) -> Contract:
    return make_contract(network)


@pytest.fixture
def policy_file(tmp_path: Path, network: bytes, contract: Contract) -> Path:
    path = tmp_path / "policy.onnx"
    write_artefact(path, network, contract)
    return path


@pytest.fixture
def write_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a file that is whole by its checksums, with another network or with entries of the contract changed."""

    def write(weight: NDArray[np.float32] = WEIGHT, **changes: Any) -> Path:
        network = make_network(weight)
        path = tmp_path / "changed.onnx"
        write_artefact(path, network, dataclasses.replace(make_contract(network), **changes))
        return path

    return write


class FakeClock:
    """Time passes when slept, when advanced, and a microsecond at every look."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        self.time += 1e-6
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class ScriptedRobot:
    """Gives prepared observations; ``work(tick)`` seconds pass at every write. Ends after ``length`` commands."""

    def __init__(
        self,
        clock: FakeClock,
        length: int = 10,
        ended: EndReason = "truncated",
        work: Callable[[int], float] = lambda tick: 0.0,
    ) -> None:
        self.clock = clock
        self.length = length
        self.ended: EndReason = ended
        self.work = work
        self.observations: dict[int, NDArray[np.float64]] = {}
        self.actions: list[NDArray[np.generic]] = []
        self.calls: list[str] = []

    def connect(self, contract: Contract) -> None:
        self.calls.append("connect")

    def read(self) -> Reading:
        self.calls.append("read")
        tick = len(self.actions)
        observation = self.observations.get(tick, np.full(3, 0.1 * tick))
        reward = None if tick == 0 else 1.0
        return Reading(self.clock.now(), observation, reward=reward, ended=self.ended if tick == self.length else None)

    def write(self, action: NDArray[np.generic]) -> None:
        self.calls.append("write")
        self.clock.time += self.work(len(self.actions))
        self.actions.append(action)

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def make_robot(clock: FakeClock) -> Callable[..., ScriptedRobot]:
    def make(**settings: Any) -> ScriptedRobot:
        return ScriptedRobot(clock, **settings)

    return make


def export_linear(env_id: str, gains: NDArray[np.float64], path: Path, **training: Any) -> Any:
    """Train nothing: export a linear controller of a native environment, and give the policy it was made from."""
    import torch

    from rlstab.envs.registry import make_vec
    from rlstab.policies.actor_critic import ActorCriticPolicy, NetworkConfig
    from rlstab.sim2real.export import export_policy
    from rlstab.sim2real.layout import layout_of

    env = make_vec(env_id, env_kwargs=training.get("env_kwargs"))
    config = NetworkConfig(hidden_sizes=(), normalize_observation=False)
    policy = ActorCriticPolicy(env.single_observation_space, env.single_action_space, config)
    with torch.no_grad():
        next(policy.module.actor.parameters()).copy_(torch.from_numpy(np.atleast_2d(gains)))
    export_policy(policy, path, layout_of(env, env_id), Training(env_id, **training))
    env.close()
    return policy


PENDULUM_GAINS = np.array([0.3, 3.0, 0.5, 0.6])
"""Balance InvertedPendulum-v5 for as long as one likes."""


@pytest.fixture(scope="session")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """An exported controller that balances the inverted pendulum, and the torch policy it was exported from."""
    path = tmp_path_factory.mktemp("pendulum") / "policy.onnx"
    return path, export_linear("InvertedPendulum-v5", PENDULUM_GAINS, path)


@pytest.fixture(scope="session")
def hopper(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """An exported controller that makes the hopper fall in some way, and the torch policy it was exported from."""
    path = tmp_path_factory.mktemp("hopper") / "policy.onnx"
    gains = 0.3 * np.random.default_rng(0).normal(size=(3, 11))
    return path, export_linear("Hopper-v5", gains, path)


@pytest.fixture(scope="session")
def export_native() -> Callable[..., Any]:
    """`export_linear`."""
    return export_linear
