"""Sigmoid attention: one function, one module, and the code behind them for CPUs and GPUs."""

from rlstab.kernels.sigmoid_attention.attention import sigmoid_attention, softmax_attention
from rlstab.kernels.sigmoid_attention.decode import (
    sigmoid_attention_decode,
    sigmoid_attention_step,
    softmax_attention_decode,
)
from rlstab.kernels.sigmoid_attention.masks import Segments, alibi_slopes, segments_to_rows
from rlstab.kernels.sigmoid_attention.module import SelfAttention
from rlstab.kernels.sigmoid_attention.ring_cache import RingCache
from rlstab.kernels.sigmoid_attention.stats import AttentionStats, attention_stats
from rlstab.kernels.sigmoid_attention.varlen import sigmoid_attention_varlen

__all__ = [
    "AttentionStats",
    "RingCache",
    "Segments",
    "SelfAttention",
    "alibi_slopes",
    "attention_stats",
    "segments_to_rows",
    "sigmoid_attention",
    "sigmoid_attention_decode",
    "sigmoid_attention_step",
    "sigmoid_attention_varlen",
    "softmax_attention",
    "softmax_attention_decode",
]
