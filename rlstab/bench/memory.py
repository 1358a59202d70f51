"""`rlstab bench memory`: tasks that need a memory, by transformers, an LSTM and a network without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rlstab.analysis.result import Scalar
from rlstab.bench import method_worker, sb3_lstm
from rlstab.bench.conditions import command_line
from rlstab.bench.reports import Report
from rlstab.bench.study import Study, Table, by_task, page_name
from rlstab.bench.trainings import Training, collect, conditions_of
from rlstab.controllers.transformer_ppo.config import TransformerPPOConfig
from rlstab.errors import UserError
from rlstab.runs.provenance import usable_cores

SIGMOID, SOFTMAX, LSTM, NONE = "transformer, sigmoid", "transformer, softmax", "LSTM", "no memory"
SIGMOID_CHANGES, SOFTMAX_CHANGES = "sigmoid, changes", "softmax, changes"
CHANGES_ALONE, SIGHTED = "changes alone", "velocities seen"
LEARNERS = (SIGMOID, SOFTMAX, LSTM, NONE)
WITH_CHANGES = (*LEARNERS, SIGMOID_CHANGES, SOFTMAX_CHANGES, CHANGES_ALONE)

FIRST_TUNING_SEED = 100
"""Seeds from here on are for `rlstab bench tuning`: settings must not be chosen by what they are compared on."""

_TRANSFORMERS: dict[str, dict[str, Any]] = {
    SIGMOID: {"attention": "sigmoid", "observation_change": False},
    SOFTMAX: {"attention": "softmax", "observation_change": False},
    SIGMOID_CHANGES: {"attention": "sigmoid", "observation_change": True},
    SOFTMAX_CHANGES: {"attention": "softmax", "observation_change": True},
    # Attention to the step itself alone: what is left of the transformer is a perceptron.
    CHANGES_ALONE: {"attention": "sigmoid", "observation_change": True, "window": 1},
}
_REPORTS = {SIGMOID: "sigmoid", SOFTMAX: "softmax", LSTM: "lstm", NONE: "perceptron", SIGHTED: "sighted"}

_SHARED = (
    *("num_envs", "n_steps", "batch_size", "n_epochs", "learning_rate", "learning_rate_schedule", "gamma"),
    *("gae_lambda", "ent_coef", "vf_coef", "max_grad_norm", "clip_range", "normalize_observation", "normalize_reward"),
)


_SOLVED = 0.9
"""Share of what memory is worth that has to be earned."""

_COSTLY = ("n_epochs", "batch_size", "num_envs")
"""What the cost of a step depends on most."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a task is about."""

    steps: int
    """Environment steps of each training."""
    best: float | None
    """Return of a perfect memory, where it is known."""
    blind: float | None
    """Best expected return without memory, where it is known."""
    digits: int
    """Decimals of its returns."""
    about: str
    """What is to be remembered and how the settings were chosen, in Markdown."""
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Learner to what suits it better than the settings of the transformer with sigmoid."""
    learners: tuple[str, ...] = LEARNERS
    """Who is compared."""
    sighted: str | None = None
    """The same task with nothing hidden, on which the network without memory shows what there is to be earned."""


# Stable-Baselines3's defaults, which serve perceptrons well on these robots.
_SMALL_STEPS = {"num_envs": 8, "n_steps": 256, "batch_size": 64, "n_epochs": 10}

_ROBOT = """
Of the robot only the positions are seen, not the velocities. Where *changes* is said, the transformer's tokens also
hold how the observation has changed since the step before, as in the preset of the task; the others have
`--no-observation-change`. *Changes alone* is such a transformer with `--window 1`, which has nothing to attend to. The
LSTM and the network without memory do not see changes: they are compared with the transformers that do not either, and
those that do with changes alone. The settings were chosen with the transformer by sigmoid, from eight at half the
length with one seed; those without memory are Stable-Baselines3's defaults.
"""

# Those of the robot whose velocities are seen (`rlstab train ppo`), where every network has such hidden layers.
# Actor and critic of these are networks of their own: the weight of the value's loss is the usual one.
_CHEETAH_NETWORK = {"hidden_sizes": (256, 256), "activation": "relu", "log_std_init": -2.0, "vf_coef": 0.5}

TASKS: dict[str, Task] = {
    "rlstab/PassiveTMaze-v0": Task(
        steps=300_000,
        best=1.0,
        blind=0.5,
        digits=2,
        about="""
In the passive T-maze (arXiv:2307.03864) a cue at the first step tells where to turn 50 steps later. Each memory has the
best of eight settings, which `rlstab bench tuning` chose for it: [tried equally often](tuning_passivetmaze_v0.md), with
a seed that is not used here.
""",
        own={
            SOFTMAX: {"learning_rate": 3e-3, "n_epochs": 4},
            LSTM: {"learning_rate": 1e-3, "ent_coef": 0.03, "n_epochs": 8},
        },
    ),
    "rlstab/RepeatPreviousEasy-v0": Task(
        steps=400_000,
        best=1.0,
        blind=-0.49,
        digits=2,
        about="""
In RepeatPrevious (POPGym, arXiv:2303.01859) the action names the card three before the newest. Three rates (5e-4, 1e-3,
3e-3) were tried with one seed by the transformers and by the LSTM, and each has its best.
""",
    ),
    "rlstab/HopperP-v0": Task(
        steps=1_000_000,
        best=None,
        blind=None,
        digits=0,
        about=_ROBOT,
        own={NONE: _SMALL_STEPS},
        learners=WITH_CHANGES,
    ),
    "rlstab/HalfCheetahP-v0": Task(
        steps=600_000,
        best=None,
        blind=None,
        digits=0,
        about="""
Of the robot only the positions are seen, not the velocities. *Velocities seen* is the network without memory on
HalfCheetah-v5, where nothing is hidden, for as many steps: what it earns more than without velocities is what memory is
worth. Where *changes* is said, tokens also hold how the observation has changed since the step before, as in the preset
of the task; *changes alone* is such a transformer with `--window 1`, which has nothing to attend to. All have the
settings of HalfCheetah-v5's preset for `rlstab train ppo`. What differs: the value's loss has a smaller weight in the
transformers, whose actor and critic share most of the network (0.1, the better of two tried with the transformer by
sigmoid, one seed), and the LSTM makes fewer gradient steps, each of which takes it longer; it was not tuned.
""",
        own={
            LSTM: {**_CHEETAH_NETWORK, "n_epochs": 4, "batch_size": 512},
            NONE: _CHEETAH_NETWORK,
            SIGHTED: _CHEETAH_NETWORK,
        },
        learners=(*WITH_CHANGES, SIGHTED),
        sighted="HalfCheetah-v5",
    ),
}


@dataclass(frozen=True)
class Options:
    """What to train."""

    env: str = "rlstab/PassiveTMaze-v0"
    """Task: rlstab/PassiveTMaze-v0, rlstab/RepeatPreviousEasy-v0, rlstab/HopperP-v0 or rlstab/HalfCheetahP-v0."""
    seeds: int = 5
    """Trainings of each learner, with seeds 0, 1, ..., at most 100: those from 100 on chose the settings."""
    steps: int | None = None
    """Environment steps of each training. None: as the task needs."""
    jobs: int = field(default_factory=usable_cores)
    """Trainings that run at the same time, each on one core."""
    work: Path = Path("runs/memory")
    """Folder that keeps one report a finished training; those of equal steps and hyper-parameters are used again."""


@dataclass(frozen=True, eq=False, repr=False)
class MemoryResult(Study):
    """Returns of each learner."""

    kind: ClassVar[str] = "memory"
    about: ClassVar[str] = """
Return of PPO with a transformer (`rlstab train transformer_ppo`; attention by sigmoid or by softmax), with an LSTM
(sb3-contrib's RecurrentPPO, 64 units each for actor and critic), and without memory (`rlstab train ppo`), for equally
many environment steps on the same batched worlds. Transformers see their previous action, too. *Return* is the mean of
20 deterministic episodes of the final policy; intervals are 95 % percentile bootstraps over seeds by rliable. *Above
that without memory* is an interval that lies above that of the network without memory, and above the best that can be
expected without memory where that is known; *solved* is nine tenths of what memory is worth.
"""

    steps_per_second: dict[str, dict[str, float]]
    """Task to learner to environment steps a second of processor time, evaluation left out; mean over seeds, NaN where
    processor time was not taken."""

    def description(self) -> str:
        """See `Study.description`."""
        env = self.envs[0]
        parts = [self.about.strip(), TASKS[env].about.strip(), _settings_text(env, self.learners)]
        return "\n\n".join([*parts, *self._speeds_text(env)])

    def _speeds_text(self, env: str) -> list[str]:
        """Say what the table of speeds leaves open: a paragraph, or nothing."""
        parts: list[str] = []
        unknown = [name for name in self.learners if not np.isfinite(self.steps_per_second[env][name])]
        if unknown:
            parts.append(f"In the table of speeds, `-` says that processor time was not taken ({'; '.join(unknown)}).")
        differing = _differing(env, self.learners, _COSTLY)
        if differing:
            parts.append(f"Speeds are of different settings: {'; '.join(differing)}.")
        return [" ".join(parts)] if parts else []

    def figure(self, path: Path) -> Path:
        """See `Study.figure`; learners that see changes have a picture of their own beside that of the others."""
        changes = [name for name in self.learners if "changes" in name]
        if not changes:
            return super().figure(path)
        import matplotlib.pyplot as plt

        from rlstab.analysis import plots

        env = self.envs[0]
        figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.4), sharey=True, layout="constrained")
        others = [name for name in self.learners if name not in changes]
        for ax, names, title in zip(axes, (others, changes), ("without changes", "with changes"), strict=True):
            plots.learning_curves([self.curves[env][name] for name in names], ax)
            ax.set_title(f"{env}, tokens {title}", fontsize=9)
            ax.legend(fontsize=7, loc="upper left")
        axes[1].set_ylabel("")
        figure.savefig(path, dpi=150)
        plt.close(figure)
        return path

    def interval_text(self, env: str, learner: str) -> str:
        """See `Study.interval_text`."""
        mean, low, high = self.interval(env, learner)
        digits = _digits(env)
        if not np.isfinite([low, high]).all():
            return f"{mean:.{digits}f}"
        return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    def solved(self, env: str, learner: str) -> bool:
        """Whether most of what memory is worth is earned: nine tenths of the way from blind to best."""
        blind, best = self._worth(env)
        return self.interval(env, learner)[0] >= blind + _SOLVED * (best - blind)

    def _worth(self, env: str) -> tuple[float, float]:
        """Return without memory and with a perfect one: known, or measured where nothing is hidden."""
        task = TASKS[env]
        if task.blind is not None and task.best is not None:
            return task.blind, task.best
        return self.interval(env, NONE)[0], self.interval(env, SIGHTED)[0]

    def ahead(self, env: str, learner: str, floor: str = NONE) -> bool:
        """Whether the whole interval lies above another's, and above the best expected return without memory."""
        blind = TASKS[env].blind
        other = self.interval(env, floor)[2]
        return self.interval(env, learner)[1] > (other if blind is None else max(other, blind))

    def summary(self) -> dict[str, Scalar]:
        """Whose memory pays."""
        env = self.envs[0]
        blind_to_changes = (SIGMOID, SOFTMAX, LSTM)
        facts = {
            "interval above that without memory": _names(name for name in blind_to_changes if self.ahead(env, name))
        }
        if _known(env) or SIGHTED in self.learners:
            references = (NONE, SIGHTED)
            solved = _names(name for name in self.learners if name not in references and self.solved(env, name))
            blind, best = self._worth(env)
            level = f"{blind + _SOLVED * (best - blind):.{_digits(env)}f}"
            facts = {f"solved, which begins at {level}, by": solved, **facts}
        if CHANGES_ALONE in self.learners:
            ahead = (n for n in (SIGMOID_CHANGES, SOFTMAX_CHANGES) if self.ahead(env, n, CHANGES_ALONE))
            facts["interval above that of changes alone"] = _names(ahead)
        return dict(facts)

    def verdict(self) -> str:
        """Say whose memory pays."""
        return ". ".join(f"{name.capitalize()}: {found}" for name, found in self.summary().items()) + "."

    def comparison(self) -> Table:
        """Lay out all intervals, a row a task."""
        rows = []
        for env in self.envs:
            task = TASKS.get(env)
            bounds = [f"{task.blind:.2f}", f"{task.best:.2f}"] if task and _known(env) else ["-", "-"]
            rows.append([env, *(self.interval_text(env, name) for name in self.learners), *bounds])
        columns = ["task", *self.learners, "best without memory", "best"]
        return "Mean return over seeds, with 95 % interval", columns, rows

    def tables(self) -> list[Table]:
        """See `Study.tables`; speeds come last."""
        per_seed = [
            [env, name, *(f"{value:.{_digits(env)}f}" for value in self.returns[env][name])]
            for env in self.envs
            for name in self.learners
        ]
        seeds = [f"seed {seed}" for seed in range(len(per_seed[0]) - 2)]
        speeds = [[env, *(_whole(self.steps_per_second[env][name]) for name in self.learners)] for env in self.envs]
        return [
            self.comparison(),
            ("Return of each seed", ["task", "learner", *seeds], per_seed),
            ("Environment steps a second while training, on one core", ["task", *self.learners], speeds),
        ]


def measure(options: Options, on_progress: Callable[[str], None] = print) -> MemoryResult:
    """Run the trainings that are not in the work folder yet, and compare.

    Raises
    ------
    UserError
        A number is out of range, the task is unknown, or a training fails.
    """
    if min(options.seeds, 1 if options.steps is None else options.steps, options.jobs) < 1:
        raise UserError("seeds, steps and jobs must be at least 1")
    if options.seeds > FIRST_TUNING_SEED:
        raise UserError(f"seeds from {FIRST_TUNING_SEED} on are those that chose the settings: ask for no more seeds")
    env = options.env
    if env not in TASKS:
        raise UserError(f"no settings for {env} here: choose from {', '.join(TASKS)}")
    task = TASKS[env]
    steps = task.steps if options.steps is None else options.steps
    # Seed by seed: an unfinished study has something of every learner.
    trainings = {
        (env, name, seed): training(name, env, seed, steps) for seed in range(options.seeds) for name in task.learners
    }
    found = collect(trainings, options.work, options.jobs, on_progress)
    reports = {(env, name): [found[env, name, seed] for seed in range(options.seeds)] for name in task.learners}
    speeds = {name: float(np.mean([_speed(report) for report in reports[env, name]])) for name in task.learners}
    return MemoryResult(
        name=page_name("memory", (env,), ()),
        title=f"Tasks that need a memory: {env.removeprefix('rlstab/')}",
        command=command_line("memory", options),
        envs=(env,),
        learners=task.learners,
        **by_task((env,), task.learners, reports),
        conditions=conditions_of({name: reports[env, name] for name in task.learners}, ours=SIGMOID),
        settings={"seeds": options.seeds, "settings": _describe(env, steps)},
        steps_per_second={env: speeds},
    )


def training(
    learner: str, env: str, seed: int, steps: int, changes: Mapping[str, Any] | None = None, name: str | None = None
) -> Training:
    """Describe one training of the study, or one with some settings changed and the report under another name."""
    own = {**TASKS[env].own.get(learner, {}), **(changes or {})}
    name = name or _REPORTS.get(learner) or learner.replace(", ", "_").replace(" ", "_")
    if learner == LSTM:
        return sb3_lstm.training(name, env, seed, steps, {**shared_settings(env), **own})
    if learner in (NONE, SIGHTED):
        played = TASKS[env].sighted if learner == SIGHTED else env
        assert played is not None
        return method_worker.training("ppo", name, played, seed, steps, {**shared_settings(env), **own})
    return method_worker.training("transformer_ppo", name, env, seed, steps, {**_TRANSFORMERS[learner], **own})


def shared_settings(env: str) -> dict[str, Any]:
    """Pick from the transformer's preset what all learners have."""
    config = method_worker.worker_config("transformer_ppo", env, 0, 1, {})
    assert isinstance(config, TransformerPPOConfig)
    return {name: getattr(config, name) for name in _SHARED}


def _describe(env: str, steps: int) -> str:
    config = method_worker.worker_config("transformer_ppo", env, 0, 1, {})
    assert isinstance(config, TransformerPPOConfig)
    shape = {
        name: getattr(config, name) for name in ("num_layers", "width", "num_heads", "window", "residual", "qk_norm")
    }
    parts = [f"{steps:,} steps", *(f"{name} {value}" for name, value in shared_settings(env).items())]
    parts.append("transformer: " + ", ".join(f"{name} {value}" for name, value in shape.items()))
    for name, own in TASKS[env].own.items():
        parts.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in own.items()))
    return "; ".join(parts)


def _settings_text(env: str, learners: Iterable[str]) -> str:
    """Say whose settings are whose."""
    own = {name: TASKS[env].own[name] for name in learners if name in TASKS[env].own}
    text = f"Rollouts, minibatches, rates, discounts and clips of all learners are those of {SIGMOID}"
    if own:
        spelled = (f"{name} has {', '.join(f'{key} {value}' for key, value in of.items())}" for name, of in own.items())
        text += f", except: {'; '.join(spelled)}"
    return f"{text}. The network without memory was not tuned."


def _differing(env: str, learners: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Describe the settings that learners do not share: who has which value."""
    shared, own = shared_settings(env), TASKS[env].own
    found: list[str] = []
    for key in keys:
        users: dict[Any, list[str]] = {}
        for name in learners:
            users.setdefault(own.get(name, {}).get(key, shared[key]), []).append(name)
        if len(users) > 1:
            usual = max(users, key=lambda value: len(users[value]))
            others = (f"{value} of {'; '.join(names)}" for value, names in users.items() if value != usual)
            found.append(f"{key} is {', '.join(others)} and {usual} of all others")
    return found


def _known(env: str) -> bool:
    return TASKS[env].best is not None


def _digits(env: str) -> int:
    return TASKS[env].digits


def _speed(report: Report) -> float:
    # Other trainings run beside it: what passes on the clock says little.
    return report["total_steps"] / report["processor_seconds"] if "processor_seconds" in report else float("nan")


def _whole(value: float) -> str:
    return f"{value:,.0f}" if np.isfinite(value) else "-"


def _names(names: Iterable[str]) -> str:
    return "; ".join(names) or "nobody"
