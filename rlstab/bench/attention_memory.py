"""Peak memory of attention on a CPU: runs in a process of its own and tells how far each call raised it."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rlstab.errors import UserError

_STATUS = Path("/proc/self/status")


def peak_megabytes(provider: str, lengths: Sequence[int], dim: int, threads: int) -> dict[int, float]:
    """Measure forward and backward of one head in a process of its own; MiB above what was held before each call.

    Raises
    ------
    UserError
        The process fails, or the system does not tell.
    """
    # Large blocks go back to the system at once, so that one call's memory is not the next one's.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    words = [provider, str(dim), str(threads), *map(str, lengths)]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *words], capture_output=True, text=True, env=env, check=False, timeout=600
    )
    if done.returncode:
        raise UserError(f"memory of {provider}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    return {int(length): float(value) for length, value in json.loads(done.stdout).items()}


def main(argv: Sequence[str]) -> None:
    """Print a JSON object: length to MiB."""
    import torch

    from rlstab.bench.attention_cases import Case
    from rlstab.bench.attention_providers import cpu_providers, make_inputs

    provider, dim, threads, *lengths = argv
    torch.set_num_threads(int(threads))
    found: dict[int, float] = {}
    for length in (int(lengths[0]), *map(int, lengths)):  # The first call loads libraries, and is forgotten.
        case = Case("memory", str(length), 1, 1, length, int(dim))
        inputs = make_inputs(case, torch.device("cpu"), torch.float32, torch.Generator().manual_seed(0), grad=True)
        call = cpu_providers()[provider].build(case, inputs)
        gc.collect()
        # Sets the peak back to what is held now.
        Path("/proc/self/clear_refs").write_text("5")
        before = _kilobytes("VmRSS")
        torch.autograd.grad(call(), inputs.leaves, inputs.cotangent)
        found[length] = (_kilobytes("VmHWM") - before) / 1024
        del inputs, call
    print(json.dumps(found))


def _kilobytes(name: str) -> int:
    return next(int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith(name))


if __name__ == "__main__":
    main(sys.argv[1:])
