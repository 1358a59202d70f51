from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlstab.analysis.certificates.attention import (
    AttentionCertificate,
    Head,
    certify_attention,
    heads_of,
    jacobian_norms,
    local_bound,
    mean_norm_bound,
    regional_bound,
    token_gains,
)
from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import SelfAttention, segments_to_rows

LENGTH, WIDTH = 7, 5


def random_head(seed: int, scale: float) -> tuple[Head, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    visible = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    if seed % 2:
        visible &= torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(-3)
    offsets = -visible.sum(1).double().log()[:, None].expand(LENGTH, LENGTH)
    head = Head(normal(3, WIDTH), normal(3, WIDTH), normal(4, WIDTH), offsets, visible, 3**-0.5)
    return head, scale * normal(LENGTH, WIDTH)


def jacobian_norm(function: Any, x: Tensor) -> float:
    jacobian = torch.func.jacrev(function)(x)
    return float(torch.linalg.matrix_norm(jacobian.detach().reshape(-1, x.numel()), ord=2))


def strongest_gain(function: Any, x: Tensor, radius: float, steps: int = 60) -> float:
    """Largest ratio found by gradient ascent in the ball, from random starts and from the Jacobian's top direction."""
    before = function(x).detach()
    jacobian = torch.func.jacrev(function)(x).reshape(-1, x.numel())
    top = torch.linalg.svd(jacobian).Vh[0].reshape(x.shape)
    generator = torch.Generator().manual_seed(0)
    gains = []
    for start in (top, -top, torch.randn(x.shape, generator=generator, dtype=x.dtype)):
        change = (0.9 * radius * start / start.norm()).detach().clone().requires_grad_()
        optimiser = torch.optim.Adam([change], lr=radius / 10)
        for _ in range(steps):
            gain = (function(x + change) - before).norm() / change.norm()
            gains.append(gain.detach())
            optimiser.zero_grad()
            (-gain).backward()
            optimiser.step()
            with torch.no_grad():
                change *= min(1.0, radius / float(change.detach().norm()))
    # NaN where one gain is: Python's maximum would pass it over.
    return float(torch.stack(gains).max())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_jacobian_is_below_its_bound_which_is_below_the_published_one(seed: int, scale: float) -> None:
    head, x = random_head(seed, scale)
    norm, bound = jacobian_norm(head.output, x), local_bound(head, x)
    assert norm <= bound <= mean_norm_bound(head, x)
    # The spec saw 1.8 to 2.8; a bound that is useless would pass the line above.
    assert bound <= 4 * norm


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("radius", [0.05, 0.5, 3.0])
def test_no_attack_beats_the_regional_bound(seed: int, radius: float) -> None:
    head, x = random_head(seed, 1.0)
    found, bound = strongest_gain(head.output, x, radius), regional_bound(head, x, radius)
    assert found <= bound
    # The attack is worth its name.
    assert found >= 0.9 * jacobian_norm(head.output, x)


@pytest.mark.parametrize("seed", range(3))
def test_the_regional_bound_grows_with_the_region_from_above_the_jacobian(seed: int) -> None:
    head, x = random_head(seed, 1.0)
    bounds = [regional_bound(head, x, radius) for radius in (0.0, 0.1, 0.5, 2.0)]
    assert bounds == sorted(bounds)
    assert bounds[0] >= local_bound(head, x) / (1 + 1e-12)


def test_invisible_tokens_do_not_matter_to_rows_that_do_not_see_them() -> None:
    head, x = random_head(1, 1.0)
    alone = Head(head.query, head.key, head.value, head.offsets[:3, :3], head.visible[:3, :3], head.scale)
    blind = head.visible.clone()
    blind[3:] = False
    masked = Head(head.query, head.key, head.value, head.offsets, blind, head.scale)
    assert local_bound(masked, x) == pytest.approx(local_bound(alone, x[:3]), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_gains_of_single_tokens_are_exact(seed: int) -> None:
    head, x = random_head(seed, 1.0)
    jacobian = torch.func.jacrev(lambda x: head.output(x)[-1])(x)
    expected = torch.linalg.matrix_norm(jacobian.transpose(0, 1), ord=2)
    torch.testing.assert_close(token_gains(head, x), expected, rtol=1e-10, atol=1e-12)


def layer(**options: Any) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(8, 4, 5, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"bias": "head"}, {"bias": "window"}, {"bias": "none", "positions": "alibi"}, {"kv_heads": 2}],
    ids=str,
)
def test_the_bound_of_a_layer_holds_for_the_layer(options: dict[str, Any], tmp_path: Any) -> None:
    module = layer(**options).double()
    x = torch.randn(9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    rows = segments_to_rows(torch.arange(9)[None] == 4, module.window)

    def function(x: Tensor) -> Tensor:
        return module(x[None], rows)[0]

    certificate = certify_attention(module, x, radii=(0.1, 1.0), rows=rows)
    assert certificate.is_proof
    assert jacobian_norm(function, x) <= certificate.local
    for radius, bound in zip(certificate.radii, certificate.bounds, strict=True):
        assert strongest_gain(function, x, float(radius), steps=15) <= bound
    again = AttentionCertificate.load(certificate.save(tmp_path / "certificate"))
    assert again.to_dict() == certificate.to_dict()
    # It is of this network and this set.
    with torch.no_grad():
        next(module.parameters()).mul_(1.5)
    other = certify_attention(module, x + 1, radii=(0.1, 1.0), rows=rows)
    assert other.network_sha256 != certificate.network_sha256
    assert other.set_sha256 != certificate.set_sha256


@pytest.mark.parametrize(
    "options", [{}, {"weights": "softmax"}, {"qk_norm": True}, {"weights": "softmax", "positions": "alibi"}], ids=str
)
def test_power_iteration_finds_the_norm_of_the_jacobian(options: dict[str, Any]) -> None:
    module = layer(**options).double()
    x = torch.randn(3, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    exact = [jacobian_norm(lambda one: module(one[None])[0], one) for one in x]
    found = jacobian_norms(module, x, iterations=100)
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-3)
    assert (found.numpy() <= np.array(exact) * (1 + 1e-12)).all()


def test_single_precision_layers_are_certified_in_double() -> None:
    module = layer()
    x = torch.randn(9, 8, generator=torch.Generator().manual_seed(4))
    expected = certify_attention(module.double(), x.double(), radii=(0.5,))
    np.testing.assert_allclose(certify_attention(layer(), x, radii=(0.5,)).bounds, expected.bounds, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused_with_what_to_do(dtype: torch.dtype) -> None:
    x = torch.randn(9, 8, generator=torch.Generator().manual_seed(4))
    module = layer(qk_norm=True).to(dtype)
    with pytest.raises(
        UserError, match=rf"^the layer is {dtype}, whose rounding no bound covers: give layer.float\(\)$"
    ):
        certify_attention(module, x)
    mixed = layer(qk_norm=True)
    mixed.out.to(dtype)
    with pytest.raises(UserError, match="whose rounding no bound covers"):
        certify_attention(mixed, x)
    certificate = certify_attention(module.float(), x)
    assert certificate.is_proof
    assert "computed without rounding" in certificate.statement


def test_softmax_is_refused() -> None:
    with pytest.raises(UserError, match="these bounds are for sigmoid weights"):
        certify_attention(layer(weights="softmax"), torch.randn(5, 8))


def test_the_published_bound_refuses_scores_that_are_not_bilinear() -> None:
    (head, *_), x = heads_of(layer(qk_norm=True), 5), torch.randn(5, 8, dtype=torch.float64)
    with pytest.raises(UserError, match="bilinear in the input"):
        mean_norm_bound(head, x)


OTHERS = [{"qk_norm": True}, {"positions": "rotary"}, {"qk_norm": True, "positions": "rotary", "kv_heads": 2}]


@pytest.mark.parametrize("options", OTHERS, ids=str)
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_turned_and_normalised_scores_have_a_local_bound(options: dict[str, Any], scale: float) -> None:
    module = layer(**options).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0.3 if parameter.ndim == 2 else 1.0)
    x = scale * torch.randn(9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    rows = segments_to_rows(torch.arange(9)[None] == 4, module.window)
    certificate = certify_attention(module, x, rows=rows)
    exact = jacobian_norm(lambda x: module(x[None], rows)[0], x)
    assert exact <= certificate.local <= 12 * exact


@pytest.mark.parametrize("options", OTHERS, ids=str)
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_no_attack_beats_the_regional_bound_of_turned_and_normalised_scores(
    options: dict[str, Any], spread: float
) -> None:
    module = layer(**options).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0.0 if parameter.ndim == 2 else 1.0, spread)
    x = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    def function(x: Tensor) -> Tensor:
        return module(x[None])[0]

    certificate = certify_attention(module, x, radii=(0.0, 0.01, 0.3, 3.0))
    assert list(certificate.bounds) == sorted(certificate.bounds)
    assert certificate.local <= certificate.bounds[0] * (1 + 1e-12)
    for radius, bound in zip(certificate.radii[1:], certificate.bounds[1:], strict=True):
        found = strongest_gain(function, x, float(radius), steps=25)
        assert found <= bound
        if radius == 0.01:  # The attack is worth its name.
            assert found >= 0.9 * jacobian_norm(function, x)


def test_how_far_queries_move_is_bounded_where_their_deviation_may_vanish() -> None:
    module = layer(qk_norm=True).double()
    head, x = heads_of(module, 5)[0], torch.randn(5, 8, dtype=torch.float64)
    radius = 10.0
    gains = head.query_gain(x, radius)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        step = torch.randn(5, 8, dtype=torch.float64, generator=generator)
        step *= (radius * torch.rand(5, 1, dtype=torch.float64, generator=generator)) / step.norm(dim=1, keepdim=True)
        slopes = torch.linalg.matrix_norm(head.queries(x + step)[1], ord=2)
        assert (slopes <= gains * (1 + 1e-12)).all()


@pytest.mark.parametrize("score", [30.0, 36.0, 40.0])
def test_bounds_hold_where_weights_are_nearly_one(score: float) -> None:
    """``P (1 - P)`` would be zero in double precision long before the slope is."""
    eye = torch.eye(1, dtype=torch.float64)
    head = Head(eye, eye, 1e18 * eye, 0 * eye, eye > 0, 1.0)
    x = torch.full((1, 1), math.sqrt(score), dtype=torch.float64)
    slope = math.exp(-score) / (1 + math.exp(-score)) ** 2
    exact = 1e18 * (1 / (1 + math.exp(-score)) + 2 * score * slope)
    assert exact <= local_bound(head, x) <= 1.01 * exact
    slopes_only = local_bound(head, x) / (1 + 1e-5) - 1e18 / (1 + math.exp(-score))
    assert slopes_only >= 0.5 * 1e18 * 2 * score * slope


def test_each_layer_has_a_hash_of_its_own() -> None:
    x = torch.randn(6, 8)
    layers = [layer(), layer(bias="window"), layer(positions="rotary"), layer(qk_norm=True), layer(kv_heads=2)]
    torch.manual_seed(0)
    layers.append(SelfAttention(8, 2, 5))
    certificates = [certify_attention(module, x) for module in layers]
    assert len({certificate.network_sha256 for certificate in certificates}) == len(layers)
    rows = segments_to_rows(torch.arange(6)[None] == 3, 5)
    assert certify_attention(layer(), x, rows=rows).set_sha256 != certificates[0].set_sha256


@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_gains_of_single_tokens_are_exact_for_turned_and_normalised_scores(options: dict[str, Any]) -> None:
    module = layer(**options).double()
    x = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    head = heads_of(module, 5)[3]
    jacobian = torch.func.jacrev(lambda x: head.output(x)[-1])(x)
    expected = torch.linalg.matrix_norm(jacobian.transpose(0, 1), ord=2)
    torch.testing.assert_close(token_gains(head, x), expected, rtol=1e-10, atol=1e-12)
    # And heads compute what the layer does.
    outputs = torch.cat([head.output(x) for head in heads_of(module, 5)], dim=1)
    torch.testing.assert_close(module.out(outputs), module(x[None])[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "radii", "message"),
    [
        (torch.zeros(2, 3, 8), (0.0,), "x must be one sequence"),
        (torch.zeros(3, 7), (0.0,), r"with width 8, got \(3, 7\)"),
        (torch.full((3, 8), float("nan")), (0.0,), "NaN or infinite"),
        (torch.zeros(3, 8), (-1.0,), "radii must be finite"),
        (torch.zeros(3, 8), (), "radii must be finite"),
        (torch.zeros(3, 8), 0.1, r"radii must be a sequence of numbers, got 0\.1"),
    ],
)
def test_arguments_out_of_range_are_refused(x: Tensor, radii: tuple[float, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        certify_attention(layer(), x, radii=radii)


def test_other_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="sequences of shape"):
        jacobian_norms(layer(), torch.zeros(3, 8))
    x = torch.zeros(9, 8)
    with pytest.raises(UserError, match="rows see 9 steps, the layer's window is 5"):
        certify_attention(layer(), x, rows=segments_to_rows(torch.arange(9)[None] < 0, 9))
    with pytest.raises(UserError, match=r"rows must be of one sequence of 9 steps, got \(2, 9\)"):
        certify_attention(layer(), x, rows=segments_to_rows(torch.zeros(2, 9, dtype=torch.bool), 5))
    broken = layer()
    torch.nn.init.constant_(broken.query.weight, float("inf"))
    with pytest.raises(UserError, match="weights that are NaN or infinite"):
        certify_attention(broken, torch.ones(9, 8))
