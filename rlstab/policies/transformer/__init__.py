"""Policies with a memory: causal transformers over the newest steps of an episode."""
