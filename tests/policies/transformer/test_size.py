from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box

from rlstab.errors import UserError
from rlstab.policies.transformer import size
from rlstab.policies.transformer.blocks import Transformer
from rlstab.policies.transformer.config import TransformerConfig
from rlstab.policies.transformer.policy import TransformerPolicy
from rlstab.policies.transformer.size import check_weights, check_window, free_memory, num_weights

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"attention": "softmax", "residual": "plain", "qk_norm": False, "score_bias": "head"},
        {"num_heads": 8, "kv_heads": 2, "score_bias": "head", "layer_scale": 0.1, "output_norm": True, "mlp_ratio": 3},
    ],
    ids=str,
)
def test_weights_are_counted_without_being_made(shape: dict[str, Any]) -> None:
    config = TransformerConfig(**{"width": 32, "num_layers": 3, **shape})
    made = Transformer(config, torch.Generator().manual_seed(0))
    assert num_weights(config) == sum(parameter.numel() for parameter in made.parameters())


def test_what_fits_is_let_through_and_what_does_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TransformerConfig(num_layers=1, window=8)
    monkeypatch.setattr(size, "free_memory", lambda _: 16 * num_weights(config))
    check_weights(config, CPU, copies=4)
    with pytest.raises(UserError, match=r"weights of width 64, num_layers 1 .* choose a smaller width"):
        check_weights(config, CPU, copies=5)
    check_window(config, CPU, num_envs=1)
    with pytest.raises(UserError, match="the steps of window 8, num_layers 1 and 10000 worlds take at least"):
        check_window(config, CPU, num_envs=10_000)
    monkeypatch.setattr(size, "free_memory", lambda _: None)
    check_weights(config, CPU, copies=5)


def test_a_transformer_of_the_critics_own_takes_as_much_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = TransformerConfig(num_layers=1, window=8)
    apart = TransformerConfig(num_layers=1, window=8, separate_critic=True)
    monkeypatch.setattr(size, "free_memory", lambda _: 4 * num_weights(shared))
    check_weights(shared, CPU)
    with pytest.raises(UserError, match="choose a smaller width"):
        check_weights(apart, CPU)
    # Keys, values and inputs of eight steps, less one input.
    monkeypatch.setattr(size, "free_memory", lambda _: 4 * (2 * 8 + 7) * 64)
    check_window(shared, CPU, num_envs=1)
    with pytest.raises(UserError, match="choose a smaller window"):
        check_window(apart, CPU, num_envs=1)


def test_a_policy_is_refused_before_it_is_made() -> None:
    with pytest.raises(UserError, match="the head dimension is 25000000, from width 100000000 with num_heads 4"):
        TransformerPolicy(Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (2,)), config=TransformerConfig(width=10**8))


def test_free_memory_is_told_where_the_system_tells_it(tmp_path: Path) -> None:
    if Path("/proc/meminfo").exists():
        assert (free_memory(CPU) or 0) > 2**20
    listed = tmp_path / "meminfo"
    listed.write_text("MemTotal:  9 kB\nMemAvailable:  5 kB\n")
    assert size._field(listed, "MemAvailable:") == 5 * 1024
    assert size._field(tmp_path / "none", "MemAvailable:") is None
