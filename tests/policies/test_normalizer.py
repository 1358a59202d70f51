"""Running statistics equal those of everything at once."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlstab.policies.normalizer import RunningNormalizer


@given(
    seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5), offset=st.floats(-1e3, 1e3)
)
def test_merged_batches_give_the_statistics_of_all_samples(seed, sizes, offset):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(offset, 3.0, (size, 4)) for size in sizes]
    normalizer = RunningNormalizer(4)
    for batch in batches:
        normalizer.update(torch.from_numpy(batch))
    everything = np.concatenate(batches)
    # The prior of mean 0, variance 1 weighs 1e-4 samples.
    np.testing.assert_allclose(normalizer.mean.numpy(), everything.mean(0), atol=1e-3 + 2e-4 * abs(offset))
    if len(everything) > 5:
        np.testing.assert_allclose(normalizer.var.numpy(), everything.var(0), rtol=1e-3, atol=2e-4 * offset**2 + 1e-2)


def test_output_is_standardised_and_clipped():
    normalizer = RunningNormalizer(2, limit=5.0)
    data = torch.tensor(np.random.default_rng(0).normal([3.0, -7.0], [2.0, 0.1], (5000, 2)), dtype=torch.float32)
    normalizer.update(data)
    out = normalizer(data)
    np.testing.assert_allclose(out.mean(0).numpy(), 0.0, atol=1e-2)
    np.testing.assert_allclose(out.std(0).numpy(), 1.0, atol=1e-2)
    assert normalizer(torch.tensor([[1e9, -1e9]])).tolist() == [[5.0, -5.0]]


def test_observations_of_several_axes_are_flattened():
    normalizer = RunningNormalizer(6)
    normalizer.update(torch.arange(24.0).reshape(4, 2, 3))
    np.testing.assert_allclose(normalizer.mean.numpy(), torch.arange(24.0).reshape(4, 6).mean(0).numpy(), atol=1e-2)


def test_an_empty_batch_changes_nothing():
    normalizer = RunningNormalizer(2)
    normalizer.update(torch.randn(5, 2))
    before = {name: value.clone() for name, value in normalizer.state_dict().items()}
    normalizer.update(torch.empty(0, 2))
    assert all(torch.equal(value, before[name]) for name, value in normalizer.state_dict().items())
