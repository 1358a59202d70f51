from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from rlstab.analysis.evaluation import evaluate
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.policies.actor_critic import ActorCriticPolicy, NetworkConfig
from rlstab.policies.loading import load_policy
from rlstab.runs.run import Run
from rlstab.sim2real.artefact import network_digest, sidecar_path
from rlstab.sim2real.contract import ActionLayout, Layout, ObservationField, ObservationLayout, Training
from rlstab.sim2real.deploy import deploy
from rlstab.sim2real.export import OPSET, export_policy, export_run
from rlstab.sim2real.layout import layout_of
from rlstab.sim2real.policy_onnx import OnnxPolicy

BOX = gymnasium.spaces.Box


class Space:
    """An environment of which only the spaces matter."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space = observation_space
        self.action_space = action_space


class Wrapped:
    """A policy around a bare module."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def deterministic_module(self) -> nn.Module:
        return self.module


def export(policy: Any, path: Path, layout: Layout) -> OnnxPolicy:
    return OnnxPolicy.from_artefact(export_policy(policy, path, layout, Training("Any-v0")))


def plain_layout(observation: int = 3, action: int = 2) -> Layout:
    return layout_of(Space(BOX(-np.inf, np.inf, (observation,)), BOX(-1, 1, (action,))), "Any-v0")


@pytest.fixture(scope="module")
def normalising_policy() -> ActorCriticPolicy:
    policy = ActorCriticPolicy(BOX(-np.inf, np.inf, (3,)), BOX(-2, 0.5, (2,)), NetworkConfig(activation="elu"), seed=1)
    rng = np.random.default_rng(0)
    assert policy.module.normalizer is not None
    policy.module.normalizer.update(torch.from_numpy(rng.normal([100, 0, -1], [1e-3, 50, 1], (1000, 3))))
    with torch.no_grad():
        for parameter in policy.module.actor.parameters():
            parameter.mul_(8.0)
    return policy


@pytest.fixture(scope="module")
def normalising_file(normalising_policy: ActorCriticPolicy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = layout_of(Space(normalising_policy.observation_space, normalising_policy.action_space), "Any-v0")
    path = tmp_path_factory.mktemp("export") / "deep" / "policy.onnx"
    export_policy(normalising_policy, path, layout, Training("Any-v0", method="ppo", seed=3, steps=1000))
    return path


def test_the_file_computes_what_the_policy_does(normalising_policy: ActorCriticPolicy, normalising_file: Path) -> None:
    exported = OnnxPolicy.load(normalising_file)
    rng = np.random.default_rng(1)
    for scale in (0.0, 1.0, 1e3, 1e6):
        observations = rng.normal([100, 0, -1], scale * np.array([1e-3, 50, 1]) + 1e-12, (200, 3))
        expected, _ = normalising_policy.predict(observations, deterministic=True)
        np.testing.assert_allclose(exported.predict(observations)[0], expected, atol=1e-5)
        np.testing.assert_allclose(exported.predict(observations[0])[0], expected[0], atol=1e-5)
    assert exported.observation_space == normalising_policy.observation_space
    assert exported.action_space == normalising_policy.action_space


def test_actions_are_clipped_inside_the_file(normalising_file: Path) -> None:
    actions = OnnxPolicy.load(normalising_file).predict(np.random.default_rng(2).normal(0, 100, (500, 3)))[0]
    assert (actions.min(), actions.max()) == (-2.0, 0.5)


def test_the_contract_states_normaliser_provenance_versions_and_operator_set(
    normalising_policy: ActorCriticPolicy, normalising_file: Path
) -> None:
    contract = OnnxPolicy.load(normalising_file).contract
    normaliser, reference = contract.normaliser, normalising_policy.module.normalizer
    assert normaliser is not None
    assert reference is not None
    assert normaliser.baked
    assert normaliser.mean == tuple(reference.mean.tolist())
    assert normaliser.var == tuple(reference.var.tolist())
    assert (normaliser.eps, normaliser.clip) == (1e-8, 10.0)
    assert (contract.training.method, contract.training.seed, contract.training.steps) == ("ppo", 3, 1000)
    assert {"python", "torch", "mujoco", "rlstab"} <= contract.training.versions.keys()
    assert len(contract.test_vectors) >= 3
    assert contract.opset == OPSET == onnx.load(normalising_file).opset_import[0].version
    assert json.loads(sidecar_path(normalising_file).read_text())["sha256"] == contract.sha256


def test_one_file_holds_the_whole_network_and_nothing_of_the_machine(normalising_file: Path) -> None:
    assert sorted(path.name for path in normalising_file.parent.iterdir()) == ["policy.contract.json", "policy.onnx"]
    content = normalising_file.read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert b".py" not in content
    onnx.checker.check_model(content, full_check=True)


def test_exporting_twice_gives_the_same_network(normalising_policy: ActorCriticPolicy, normalising_file: Path) -> None:
    layout = OnnxPolicy.load(normalising_file).contract.layout
    again = normalising_file.with_name("again.onnx")
    export_policy(normalising_policy, again, layout, Training("Any-v0"))
    assert network_digest(again.read_bytes()) == network_digest(normalising_file.read_bytes())
    for path in (again, sidecar_path(again)):
        path.unlink()


class Live(nn.Linear):
    """A network in training that nobody may move to another device or dtype; a copy may be."""

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        assert getattr(self, "copied", False), "the live network was moved"
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo: Any) -> Any:
        twin = Live(3, 2)
        twin.load_state_dict(self.state_dict())
        twin.copied = True
        return twin


def test_a_learner_goes_on_with_its_network_as_it_was(tmp_path: Path) -> None:
    network = Live(3, 2)
    parameter = network.weight
    exported = export(Wrapped(network), tmp_path / "policy.onnx", plain_layout())
    assert network.training
    assert network.weight is parameter
    expected = network(torch.ones(3)).detach().numpy()
    np.testing.assert_allclose(exported.predict(np.ones(3))[0], expected, atol=1e-5)


def test_exporting_leaves_a_policy_in_training_mode(tmp_path: Path) -> None:
    policy = ActorCriticPolicy(BOX(-np.inf, np.inf, (3,)), BOX(-1, 1, (2,)), NetworkConfig(hidden_sizes=(4,)))
    policy.module.train()
    export(policy, tmp_path / "policy.onnx", plain_layout())
    assert all(part.training for part in policy.module.modules())


def test_discrete_actions_are_exported(tmp_path: Path) -> None:
    space, actions = BOX(-1, 1, (4,), np.float32), gymnasium.spaces.Discrete(3)
    policy = ActorCriticPolicy(space, actions, seed=2)
    exported = export(policy, tmp_path / "policy.onnx", layout_of(Space(space, actions), "Any-v0"))
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    agree = exported.predict(observations)[0] == policy.predict(observations, deterministic=True)[0]
    assert agree.mean() > 0.95


def test_images_are_exported(tmp_path: Path) -> None:
    space, actions = BOX(0, 255, (2, 36, 36), np.uint8), BOX(-1, 1, (1,))
    policy = ActorCriticPolicy(space, actions, NetworkConfig(cnn_features=16), seed=2)
    exported = export(policy, tmp_path / "policy.onnx", layout_of(Space(space, actions), "Any-v0"))
    image = np.random.default_rng(0).integers(0, 256, (2, 36, 36), np.uint8)
    np.testing.assert_allclose(exported.predict(image)[0], policy.predict(image, deterministic=True)[0], atol=1e-5)


def test_discrete_observations_are_exported(tmp_path: Path) -> None:
    space, actions = gymnasium.spaces.Discrete(16), BOX(-1, 1, (1,))
    policy = ActorCriticPolicy(space, actions, seed=2)
    exported = export(policy, tmp_path / "policy.onnx", layout_of(Space(space, actions), "Any-v0"))
    states = np.arange(16)
    expected, _ = policy.predict(states, deterministic=True)
    np.testing.assert_allclose(exported.predict(states)[0], expected, atol=1e-5)
    np.testing.assert_allclose(exported.predict(np.array(3))[0], expected[3], atol=1e-5)


class NotFinite(nn.Module):
    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation[:, :2] * torch.nan


class DependsOnData(nn.Module):
    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation[:, :2] if observation.sum().item() > 0 else -observation[:, :2]


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (NotFinite(), "NaN or infinity: its training diverged"),
        (nn.Linear(3, 5), r"actions of shape \(5,\), Any-v0 takes \(2,\)"),
        (DependsOnData(), "ONNX cannot express"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_no_file(tmp_path: Path, module: nn.Module, named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        export(Wrapped(module), tmp_path / "policy.onnx", plain_layout())
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_exporter_that_fails_without_a_word_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UserError, match=r"ONNX cannot express .*NotImplementedError"):
        export(Wrapped(nn.Linear(3, 2)), tmp_path / "policy.onnx", plain_layout())


def test_the_file_name_must_say_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must end in \.onnx"):
        export(Wrapped(nn.Linear(3, 2)), tmp_path / "policy.pt", plain_layout())


def test_a_network_that_onnx_runtime_computes_differently_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = OnnxPolicy.predict

    def shifted(self: OnnxPolicy, *args: Any, **kwargs: Any) -> Any:
        action, state = predict(self, *args, **kwargs)
        return action + np.float32(3e-5), state

    monkeypatch.setattr(OnnxPolicy, "predict", shifted)
    with pytest.raises(UserError, match=r"differs from torch by [23][.0-9]*e-05 \(allowed 1e-05\)"):
        export(Wrapped(nn.Sequential(nn.Linear(3, 2), nn.Tanh())), tmp_path / "policy.onnx", plain_layout())
    assert list(tmp_path.iterdir()) == []


SEVERAL = [
    gymnasium.spaces.MultiDiscrete([2, 3, 4]),
    gymnasium.spaces.MultiDiscrete([3, 2], start=[-1, 5]),
    gymnasium.spaces.MultiDiscrete([[2, 3], [4, 2]]),
    gymnasium.spaces.MultiBinary(5),
    gymnasium.spaces.MultiBinary([2, 3]),
]


@pytest.mark.parametrize("space", SEVERAL, ids=str)
def test_actions_of_several_choices_are_exported(space: Any, tmp_path: Path) -> None:
    policy = ActorCriticPolicy(BOX(-np.inf, np.inf, (3,)), space, seed=1)
    with torch.no_grad():
        for parameter in policy.module.actor.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    exported = export(policy, tmp_path / "policy.onnx", layout_of(Space(policy.observation_space, space), "Any-v0"))
    assert exported.action_space == space
    observations = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    expected, _ = policy.predict(observations, deterministic=True)
    actions, _ = exported.predict(observations)
    np.testing.assert_array_equal(actions, expected)
    assert len(np.unique(actions, axis=0)) > 1
    assert all(space.contains(action.astype(space.dtype)) for action in actions)


class Lights(gymnasium.Env[Any, Any]):
    """Ends after nine steps; pays for every light of two that is on."""

    observation_space = BOX(0, 9, (1,), np.float32)
    action_space: Any = gymnasium.spaces.MultiDiscrete([2, 2])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.time += 1
        return np.array([self.time], np.float32), float(np.sum(action)), self.time == 9, False, {}


@pytest.mark.parametrize("space", [gymnasium.spaces.MultiDiscrete([2, 2]), gymnasium.spaces.MultiBinary(2)], ids=str)
def test_actions_of_several_choices_reach_the_environment(
    space: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lights, "action_space", space)
    policy = ActorCriticPolicy(Lights.observation_space, space, seed=3)
    path = tmp_path / "policy.onnx"
    export_policy(policy, path, layout_of(Lights(), "Lights-v0"), Training("Lights-v0"))
    report = deploy(path, env_id=Lights, episodes=2, realtime=False)
    np.testing.assert_array_equal(report.returns, evaluate(policy, Lights, episodes=2).returns)
    assert report.lengths == (9, 9)


class Standardised(nn.Module):
    """A normaliser of somebody's own, before a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.tensor([1.0, -2.0, 0.5]))
        self.register_buffer("width", torch.tensor([2.0, 0.25, 1.0]))
        self.linear = nn.Linear(3, 2)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.linear((observation - self.centre) / self.width).clamp(-1, 1)


def test_a_normaliser_of_ones_own_is_stated_too(tmp_path: Path) -> None:
    normaliser = export(Wrapped(Standardised()), tmp_path / "policy.onnx", plain_layout()).contract.normaliser
    assert normaliser is not None
    assert normaliser.mean == (1.0, -2.0, 0.5)
    np.testing.assert_allclose(np.sqrt(normaliser.var), [2.0, 0.25, 1.0], rtol=1e-6)


def test_a_layout_that_contradicts_itself_is_not_written(tmp_path: Path) -> None:
    layout = dataclasses.replace(
        plain_layout(), observation=ObservationLayout((3,), "float32", (ObservationField("half", 2),))
    )
    with pytest.raises(UserError, match="the observation fields have 2 entries"):
        export(Wrapped(nn.Linear(3, 2)), tmp_path / "policy.onnx", layout)
    assert list(tmp_path.iterdir()) == []


def test_a_network_with_a_free_action_range_is_exported(tmp_path: Path) -> None:
    layout = dataclasses.replace(plain_layout(), action=ActionLayout("continuous", (2,), "float32"))
    exported = export(Wrapped(nn.Linear(3, 2)), tmp_path / "policy.onnx", layout)
    assert exported.action_space == BOX(-np.inf, np.inf, (2,), np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    env_id, settings = "InvertedPendulum-v5", {"reset_noise_scale": 0.02}
    env = make_vec(env_id)
    config = {"env": env_id, "env_kwargs": settings, "max_episode_steps": 30}
    run = Run.create(
        tmp_path_factory.mktemp("runs"),
        method="ppo",
        env_id=env_id,
        config=config,
        seed=5,
        device="cpu",
        command=["rlstab"],
    )
    for step, score in ((100, 9.0), (200, 3.0)):
        policy = ActorCriticPolicy(env.single_observation_space, env.single_action_space, seed=step)
        run.checkpoints.save(step, {"policy": policy.state_dict()}, score=score)
    env.close()
    return run


def test_a_run_is_exported_with_its_provenance_and_runs_as_it_was_trained(run: Run) -> None:
    artefact = export_run(run.path)
    assert artefact.path == run.path / "exports" / "policy.onnx"
    training = artefact.contract.training
    assert (training.method, training.run, training.seed, training.steps) == ("ppo", run.info.name, 5, 100)
    assert (training.env_kwargs, training.max_episode_steps) == ({"reset_noise_scale": 0.02}, 30)
    assert training.git.removesuffix("-dirty") == run.info.git.get("commit", "")
    assert training.versions == run.info.versions
    assert max(deploy(artefact.path, episodes=2, realtime=False).lengths) <= 30


def test_the_checkpoint_can_be_chosen(run: Run, tmp_path: Path) -> None:
    last = export_run(run, tmp_path / "last.onnx", which="last")
    assert last.contract.training.steps == 200
    expected, _ = load_policy(run, 200).predict(np.ones(4), deterministic=True)
    np.testing.assert_allclose(OnnxPolicy.load(last.path).predict(np.ones(4))[0], expected, atol=1e-5)


def test_what_is_not_a_run_or_has_no_such_checkpoint_is_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run"):
        export_run(tmp_path)
    model = tmp_path / "model.zip"
    with zipfile.ZipFile(model, "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", "")
    with pytest.raises(UserError, match="model of Stable-Baselines3, not a run: only runs are exported"):
        export_run(model)
    with pytest.raises(UserError, match="150"):
        export_run(run, which=150)
