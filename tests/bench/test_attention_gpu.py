"""The protocol for GPUs, on tensors of a processor and with a clock that only counts."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlstab.bench import attention, attention_gpu
from rlstab.bench.attention_accuracy import check, check_step, poisoned_memory, sigmoid_errors
from rlstab.bench.attention_cases import Case, Decode, decodes, long, odd, rl
from rlstab.bench.attention_gpu import GpuLab, Sizes
from rlstab.bench.attention_providers import (
    Inputs,
    Provider,
    Unavailable,
    eager,
    flex,
    gpu_providers,
    make_inputs,
    official,
    ours,
    sdpa,
    specialised,
)
from rlstab.bench.attention_result import AttentionResult, Check
from rlstab.bench.attention_rows import Row
from rlstab.bench.attention_targets import SHARE, SPEED, gpu_targets
from rlstab.bench.attention_timing import Budget, CudaTimer, Quantiles
from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import sigmoid_attention

CPU = torch.device("cpu")


class FakeTimer:
    """Runs everything once and says that it took a twentieth of a millisecond."""

    def __init__(self) -> None:
        self.timed = self.replayed = 0

    def time(self, calls: Sequence[Any], grads: Sequence[Tensor] = ()) -> Quantiles:
        self.timed += 1
        for call in calls:
            for tensor in grads:
                tensor.grad = None
            call()
        assert not grads or any(tensor.grad is not None for tensor in grads)
        return 0.04, 0.05, 0.06

    def replay(self, calls: Sequence[Any]) -> Quantiles:
        self.replayed += 1
        for call in calls:
            call()
        return 0.01, 0.02, 0.03


def tiny() -> Sizes:
    return Sizes(
        long=long(tokens=128, width=128),
        rl=[
            replace(case, batch=2, length=case.length // 8)
            for case in (*rl(512, resets=False)[:2], *rl(512, resets=True)[:2])
        ],
        odd=[replace(case, heads=1) for case in odd()[:4]],
        decodes=[Decode(3, 2, 8, 4), Decode(2, 1, 4, 4)],
        few=[Decode(1, 1, 8, 4)],
        near=1,
        gemm=16,
        copied_bytes=2**20,
        grid=301,
    )


def providers() -> dict[str, Provider]:
    found = [
        ours("newton", "blockwise"),
        specialised("blockwise"),
        sdpa("SDPA flash"),
        ours("tanh", "blockwise"),
        ours("exact", "eager"),
        sdpa("SDPA masked", masked=True),
        eager(1e9),
    ]
    return {provider.name: provider for provider in found}


def lab(**changes: Any) -> GpuLab:
    options: dict[str, Any] = {"device": CPU, "providers": providers(), "timer": FakeTimer(), "budget": Budget(600.0)}
    options |= {"most_bytes": 1e9, "backend": "blockwise", "step_backend": "eager", "sizes": tiny()}
    return GpuLab(on_progress=lambda _: None, **(options | changes))


@pytest.fixture(scope="module")
def measured() -> GpuLab:
    found = lab()
    found.run()
    return found


def test_every_part_of_the_protocol_runs(measured: GpuLab) -> None:
    assert measured.left_out() == []
    keys = {(row.group, row.provider, row.mode, row.metric) for row in measured.rows}
    for group in ("RL batches", "RL batches with resets"):
        for mode in ("forward", "backward", "full"):
            peer = "SDPA masked" if group.endswith("resets") else "SDPA flash"
            for provider in ("newton", "tanh", "exact", "eager", peer):
                assert (group, provider, mode, "time") in keys
                assert (group, provider, mode, SHARE) in keys
    for mode in ("forward", "backward"):
        for provider in ("newton", "specialised", "SDPA flash", "eager"):
            assert ("long", provider, mode, SPEED) in keys
        assert ("odd sizes", "newton", mode, "time") in keys
    for provider in ("triton step", "eager step", "SDPA on the cache"):
        assert ("one step", provider, "step", SHARE) in keys
        assert ("one step", provider, "step", attention_gpu.REPLAY) in keys
    assert ("one step", "triton step, undivided", "step", SHARE) in keys
    assert ("RL batches", "newton", "forward", attention_gpu.REPLAY) in keys
    assert ("RL batches", "newton", "backward", attention_gpu.REPLAY) not in keys
    assert set(measured.ceilings) == {"matrix product, TFLOP/s", "copy, GB/s"}
    assert [mode for mode, *_ in measured.sigmoid] == ["exact", "newton", "tanh"]


def test_results_are_compared_before_they_are_timed(measured: GpuLab) -> None:
    assert all(entry.holds for entry in measured.checks), [entry for entry in measured.checks if not entry.holds]
    compared = {(entry.case, entry.what) for entry in measured.checks}
    cases = [*tiny().long, *tiny().rl, *tiny().odd]
    for name in ("out", "dq", "dk", "dv"):
        assert {(f"{case.group}, {case.name}", f"newton {name}") for case in cases} <= compared
        assert {(f"{case.group}, {case.name}", f"specialised {name}") for case in tiny().long} <= compared
    assert len(compared) == len(measured.checks)


def test_numbers_are_those_of_the_definitions() -> None:
    case = Case("long", "d128 dense 16384", 1, 16, 16384, 128)
    assert case.flops == 4 * 16 * 16384**2 * 128
    assert replace(case, causal=True).flops == case.flops / 2
    assert case.least_bytes("forward", 2) == 8 * 16 * 16384 * 128
    assert case.least_bytes("backward", 2) == 14 * 16 * 16384 * 128
    # 268 MB, as in the table of RL shapes.
    assert Decode(4096, 4, 128, 32).least_bytes(2) == 4096 * 4 * 128 * 32 * 4
    assert {(c.batch * c.length, c.heads * c.dim) for c in long()} == {(16384, 2048)}
    assert len(long()) == 24
    assert len(odd()) == 32
    assert decodes()[0] == Decode(4096, 4, 128, 32)
    assert len(set(decodes())) == 108


def test_what_is_slow_comes_last_and_is_named() -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            self.now += 1.0
            return self.now

    found = lab(budget=Budget(6.0, Clock()))
    found.run()
    assert {row.group for row in found.rows} == {"RL batches"}
    lines = found.left_out()
    assert [line.split(":")[0] for line in lines] == list(
        dict.fromkeys(task.stage for task in found.tasks() if task.stage != "long, SDPA cuDNN")
    )
    assert all(line.split(": ")[1].startswith("no time left (") for line in lines)


def test_stages_are_in_the_order_that_the_page_tells(measured: GpuLab) -> None:
    found = list(dict.fromkeys(task.stage for task in measured.tasks()))
    assert found == [stage for stage in attention_gpu.STAGES if stage in found]
    assert len(found) >= len(attention_gpu.STAGES) - 1


def test_failures_are_named_and_lose_nothing() -> None:
    def broken(case: Case, inputs: Inputs) -> Any:
        raise RuntimeError("CUDA error: out of order\nmore")

    class NoGraphs(FakeTimer):
        def replay(self, calls: Sequence[Any]) -> Quantiles:
            raise RuntimeError("operation not permitted when stream is capturing")

    chosen = providers() | {"newton": Provider("newton", broken)}
    found = lab(providers=chosen, timer=NoGraphs(), sizes=replace(tiny(), long=[], odd=[], decodes=[], few=[]))
    found.run()
    assert any("newton: RuntimeError: CUDA error: out of order (" in line for line in found.left_out())
    assert any("SDPA flash in a CUDA graph: RuntimeError" in line for line in found.left_out())
    wrong = [entry for entry in found.checks if entry.what == "newton"]
    assert wrong
    assert not any(entry.holds for entry in wrong)
    assert {row.provider for row in found.rows} >= {"tanh", "exact", "SDPA flash"}


def test_caches_that_do_not_fit_are_left_out() -> None:
    found = lab(most_bytes=10.0, sizes=replace(tiny(), long=[], odd=[], rl=[]))
    found.run()
    assert found.rows == []
    assert any("the cache would take" in line for line in found.left_out())


def test_what_is_never_written_shows() -> None:
    case = Case("odd sizes", "x", 1, 1, 4, 4)

    def forgetful(case: Case, inputs: Inputs) -> Any:
        class Forgets(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, q: Tensor) -> Tensor:
                out = torch.empty_like(q)
                out[:, :, :-1] = 1.0
                return out

            @staticmethod
            def backward(ctx: Any, *grads: Tensor) -> Tensor:
                return grads[0]

        def call() -> Tensor:
            return Forgets.apply(inputs.q) + 0.0 * (inputs.k + inputs.v)  # type: ignore[no-any-return]

        return call

    checks = check(Provider("forgetful", forgetful), case, CPU, torch.float32, 0)
    assert checks[0].error is None
    assert not checks[0].holds
    assert not torch.are_deterministic_algorithms_enabled()


def test_poison_is_for_the_time_of_the_run() -> None:
    with poisoned_memory():
        assert torch.empty(5).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("resets", [False, True])
def test_wrong_attention_is_found(dtype: torch.dtype, resets: bool) -> None:
    case = Case("RL batches", "x", 3, 2, 40, 8, causal=True, resets=resets)

    def other_bias(case: Case, inputs: Inputs) -> Any:
        return lambda: sigmoid_attention(*inputs.leaves, causal=True, layout="bhtd", bias=0.0, backend="eager")

    right = check(ours("newton", "blockwise"), case, CPU, dtype, 0)
    assert all(entry.holds for entry in right)
    assert not any(entry.holds for entry in check(Provider("wrong", other_bias), case, CPU, dtype, 0))


def test_steps_are_compared() -> None:
    assert check_step(Decode(9, 2, 8, 4), "eager", CPU, torch.float32, 0).holds


def test_errors_of_the_sigmoid() -> None:
    for _, absolute, relative in sigmoid_errors("eager", CPU, points=601):
        assert absolute < 1e-6
        assert relative < 1e-5


def test_the_published_kernel_is_called_with_its_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, sigmoid_bias: float) -> Tensor:
        return sigmoid_attention(q, k, v, causal=causal, bias=sigmoid_bias)

    module: Any = types.ModuleType("published")
    module.function = function
    monkeypatch.setitem(sys.modules, "published", module)
    case = Case("long", "x", 2, 2, 16, 8, causal=True)
    assert all(entry.holds for entry in check(official("published:function"), case, CPU, torch.float32, 0))
    with pytest.raises(Unavailable, match="no episodes"):
        official("published:function").build(replace(case, resets=True), make(case))
    for spec, message in (("published", "must be MODULE:FUNCTION"), ("published:none", "cannot be imported")):
        with pytest.raises(UserError, match=message):
            official(spec)
    assert "official" in gpu_providers("published:function", 1e9)
    assert "official" not in gpu_providers(None, 1e9)


def test_flex_attention_computes_sigmoid_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    for causal in (False, True):
        case = Case("long", "x", 1, 2, 128, 16, causal=causal)
        inputs = make(case)
        with warnings.catch_warnings():  # of being slow; it is given once a process
            warnings.simplefilter("ignore")
            found = flex().build(case, inputs)()
        expected = ours("exact", "eager").build(case, inputs)()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(Unavailable):
        flex().build(replace(case, resets=True), inputs)


def test_peers_get_what_they_can_compute() -> None:
    case = Case("RL batches", "x", 2, 2, 12, 8, causal=True, resets=True)
    with pytest.raises(Unavailable, match="no episodes"):
        sdpa("SDPA flash").build(case, make(case))
    with pytest.raises(Unavailable, match="no episodes"):
        specialised().build(case, make(case))
    with pytest.raises(Unavailable, match="backend 'specialised' computes head dimensions 64 and 128"):
        specialised().build(replace(case, resets=False), make(case))()
    with pytest.raises(Unavailable, match="needs no mask"):
        sdpa("SDPA masked", masked=True).build(replace(case, resets=False), make(case))
    with pytest.raises(Unavailable, match=r"more than 0\.0 GiB"):
        eager(1.0).build(case, make(case))
    with sdpa("SDPA math", "MATH").context():
        assert sdpa("SDPA math").build(replace(case, resets=False), make(case))().shape == (2, 2, 12, 8)


def test_triton_s_clocks_get_calls_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    testing = pytest.importorskip("triton.testing")
    asked: list[dict[str, Any]] = []

    def bench(fn: Any, **options: Any) -> list[float]:
        for _ in range(4):
            fn()
        asked.append(options)
        return [1.0, 2.0, 3.0]

    monkeypatch.setattr(testing, "do_bench", bench)
    monkeypatch.setattr(testing, "do_bench_cudagraph", bench)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    made: list[int] = []
    calls = [lambda: made.append(0), lambda: made.append(1)]
    grads = [torch.zeros(1)]
    assert CudaTimer().time(calls, grads) == (1.0, 2.0, 3.0)
    assert CudaTimer().replay(calls) == (1.0, 2.0, 3.0)
    assert made == [0, 1, 0, 1] * 2
    quantiles = {"quantiles": [0.2, 0.5, 0.8]}
    assert asked == [{"warmup": 100, "rep": 250, "grad_to_none": grads, **quantiles}, {"rep": 20, **quantiles}]


def test_goals_of_a_gpu() -> None:
    def row(provider: str, mode: str, metric: str, case: str, median: float, group: str = "long") -> Row:
        return Row(provider, mode, metric, "", case, "T", 1.0, median, median, median, group)

    rows = [
        row("newton", "forward", SPEED, "d128 dense 16384", 610.0),
        row("newton", "forward", SPEED, "d128 dense 8192", 500.0),
        row("newton", "forward", SPEED, "d128 causal 8192", 350.0),
        row("newton", "forward", SHARE, "R1", 0.9, "RL batches"),
        row("newton", "forward", SHARE, "R2", 0.75, "RL batches"),
        row("newton", "full", "time", "R1", 1.0, "RL batches"),
        row("SDPA flash", "full", "time", "R1", 1.5, "RL batches"),
    ]
    targets = {target.what: target for target in gpu_targets(rows, [Check("c", "w", 1.0, 2.0)])}
    assert targets["forward, d128 dense 16384, TFLOP/s"].reached == "yes, and the stretch"
    assert targets["forward, d128 8192, causal speed over dense"].reached == "no"
    assert targets["forward, RL batches, smallest share of copy bandwidth"].value == 0.75
    assert targets["forward and backward, RL batches, smallest ratio to SDPA flash"].reached == "yes"
    assert targets["largest error, as a share of the limit"].reached == "yes, and the stretch"
    assert targets["backward, d64 dense 16384, TFLOP/s"].reached == "not measured"
    # Their names are those that the cases have.
    names = {case.name for case in long()} | {case.name for case in decodes()}
    assert {"d128 dense 16384", "d64 dense 4096", "d128 causal 8192", "B 4096, 4 heads, W 128, d 32"} <= names


def test_the_command_measures_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(total_memory=80 * 2**30)
    )
    monkeypatch.setattr(attention, "_driver", lambda: "580")
    filled = lab()
    filled.run()

    def run(self: GpuLab) -> None:
        assert self.device == torch.device("cuda", 0)
        assert self.dtype == torch.bfloat16
        self.rows, self.checks, self.ceilings = filled.rows, filled.checks, filled.ceilings

    monkeypatch.setattr(GpuLab, "run", run)
    made = attention.measure(attention.Options(seed=3), lambda _: None)
    assert isinstance(made, AttentionResult)
    text = made.to_markdown()
    assert "| gpu | H100 |" in text
    assert "| driver | 580 |" in text
    assert (
        "plain operations and FlexAttention; one step, all further sizes; one step, few environments; odd sizes" in text
    )


def make(case: Case) -> Inputs:
    return make_inputs(case, CPU, torch.float32, torch.Generator().manual_seed(0))
