from __future__ import annotations

from typing import Any

import pytest
import torch

from rlstab.kernels.sigmoid_attention import segments_to_rows
from rlstab.policies.transformer.blocks import GRUGate, Transformer
from rlstab.policies.transformer.config import TransformerConfig
from rlstab.policies.transformer.sigma_reparam import SigmaReparam, apply_sigma_reparam, power_step, trained_weight

SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"attention": "softmax", "residual": "plain", "positions": "none"},
    {"layer_scale": 0.1, "output_norm": True, "sigma_reparam": True, "score_bias": "head", "kv_heads": 1},
)


def made(**shape: Any) -> Transformer:
    config = TransformerConfig(**{"width": 16, "num_heads": 2, "window": 4, "num_layers": 3, **shape})
    return Transformer(config, torch.Generator().manual_seed(0)).double()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_a_gate_is_a_gated_recurrent_unit() -> None:
    gate = GRUGate(5, 2.0).double()
    stream, added = noise(7, 5), noise(7, 5).flip(0)
    reset_y, update_y, state_y = gate.from_added.weight.chunk(3)
    reset_x, update_x = gate.from_stream.weight.chunk(2)
    r = torch.sigmoid(added @ reset_y.T + stream @ reset_x.T)
    z = torch.sigmoid(added @ update_y.T + stream @ update_x.T - 2.0)
    h = torch.tanh(added @ state_y.T + (r * stream) @ gate.from_reset.weight.T)
    torch.testing.assert_close(gate(stream, added), (1 - z) * stream + z * h)


def test_a_fresh_gate_lets_most_of_the_stream_pass() -> None:
    x = noise(1000, 16)

    def moved(bias: float) -> float:
        torch.manual_seed(0)
        gate = GRUGate(16, bias).double()
        return float(((gate(x, noise(1000, 16).flip(0)) - x).norm() / x.norm()).detach())

    assert moved(4.0) < moved(2.0) < moved(0.0)
    assert moved(2.0) < 0.4


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_output_depends_on_its_receptive_field_and_no_more(shape: dict[str, Any]) -> None:
    transformer, tokens = made(**shape), noise(1, 30, 16)
    assert transformer.receptive_field == 9
    rows = segments_to_rows(torch.arange(30)[None] == 0, 4)
    before = transformer(tokens, rows)
    changed = tokens.clone()
    changed[:, 10, ::2] += 1.0  # Norms would take away what moves all channels alike.
    moved = (transformer(changed, rows) != before).any(2)[0].nonzero().flatten().tolist()
    assert moved == list(range(10, 20))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_memories_stand_for_the_tokens_that_made_them(shape: dict[str, Any]) -> None:
    transformer, tokens = made(**shape), noise(2, 20, 16)
    rows = segments_to_rows(torch.arange(20).expand(2, 20) == 5, 4)
    steps = torch.arange(20).expand(2, 20)
    kept: list[torch.Tensor] = []
    whole = transformer(tokens, rows, steps, keep=kept)
    memories = [inputs[:, 9:12] for inputs in kept]
    cut = segments_to_rows((torch.arange(20).expand(2, 20) == 5)[:, 9:], 4)
    torch.testing.assert_close(transformer(tokens[:, 12:], cut, steps[:, 9:], memories), whole[:, 12:])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_parameter_learns_and_the_generator_decides_them(shape: dict[str, Any]) -> None:
    transformer, again = made(**shape), made(**shape)
    transformer(noise(2, 9, 16)).square().mean().backward()
    for (name, parameter), other in zip(transformer.named_parameters(), again.parameters(), strict=True):
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        assert torch.equal(parameter, other), name


def test_reparametrised_weights_begin_unchanged_and_have_gamma_for_a_norm() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 9)
    before = linear.weight.detach().clone()
    apply_sigma_reparam(linear)
    torch.testing.assert_close(linear.weight, before)
    (step,) = (part for part in linear.modules() if isinstance(part, SigmaReparam))
    with torch.no_grad():
        trained_weight(linear).mul_(7.0).add_(0.3 * torch.randn(9, 6))
        step.gamma.fill_(2.5)
    for _ in range(100):
        power_step(linear)
    torch.testing.assert_close(torch.linalg.matrix_norm(linear.weight, 2), torch.tensor(2.5), rtol=1e-4, atol=1e-4)


def test_the_gradient_of_a_reparametrised_weight_flows_through_its_norm() -> None:
    weight = noise(4, 3)
    step = SigmaReparam(weight).double()
    # Scaling the weight changes nothing: the gradient has no component along it.
    weight.requires_grad_()
    (step(weight) * noise(4, 3).flip(0)).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close((weight.grad * weight.detach()).sum(), torch.zeros((), dtype=torch.float64))
