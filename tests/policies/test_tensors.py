from __future__ import annotations

import pytest
import torch

from rlstab.errors import UserError
from rlstab.policies.tensors import pick_device


@pytest.mark.parametrize("name", ["meta", "tpuu", "xla", "mps", "cuda:x", ""])
def test_what_cannot_compute_here_is_no_device(name: str) -> None:
    with pytest.raises(UserError, match=f"unknown device '{name}': use auto, cpu, cuda or cuda:N"):
        pick_device(name)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="torch sees no GPU: use --device cpu"):
        pick_device("cuda:1")


def test_the_number_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="'cuda:2' was asked for, but the GPUs torch sees are cuda:0 to cuda:1"):
        pick_device("cuda:2")
