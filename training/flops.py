"""Counting work: parameters and FLOPs of a model, peak rates of devices.

FLOPs per token of a training step: 6 N + 12 n_layers d_model L (Chowdhery et al. 2022, PaLM, Appendix B), where N counts
every parameter that multiplies a token (all but an untied input embedding) and the second term is full attention.
"""

from __future__ import annotations

import time

import torch

from training.config import Architecture

# Dense FLOP/s of one device from the makers' data sheets: (bf16, fp32).
_DEVICES = {
    "H200": (989e12, 67e12),
    "H100 PCIE": (756e12, 51e12),
    "H100": (989e12, 67e12),
    "B200": (2250e12, 75e12),
    "A100": (312e12, 19.5e12),
    "L40S": (362e12, 91.6e12),
    "L4": (121e12, 30.3e12),
    "A10": (125e12, 31.2e12),
    "V100": (15.7e12, 15.7e12),
    "T4": (8.1e12, 8.1e12),
}


def parameter_count(shape: Architecture, vocabulary: int) -> int:
    """Parameters of a Llama-architecture model (RMSNorm, grouped-query attention, gated feed-forward, no biases)."""
    d, head = shape.hidden_size, shape.hidden_size // shape.heads
    attention = 2 * d * d + 2 * d * head * (shape.kv_heads or shape.heads)
    block = attention + 3 * d * shape.intermediate_size + 2 * d
    return vocabulary * d * (1 if shape.tied_embeddings else 2) + shape.layers * block + d


def flops_per_token(shape: Architecture, vocabulary: int, sequence_length: int) -> float:
    """FLOPs of forward and backward pass per token at the given sequence length."""
    lookup_only = 0 if shape.tied_embeddings else vocabulary * shape.hidden_size
    multiplied = parameter_count(shape, vocabulary) - lookup_only
    return 6.0 * multiplied + 12.0 * shape.layers * shape.hidden_size * sequence_length


def device_peak(name: str, bf16: bool) -> float | None:
    """Data-sheet FLOP/s of a GPU by its name, or None when it is not in the table."""
    upper = name.upper()
    for key, (half, single) in _DEVICES.items():
        if all(part in upper for part in key.split()):
            return half if bf16 else single
    return None


def measure_cpu_peak(seconds: float = 0.2, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of this process in ``dtype``: the best of repeated 1024-square matrix products within about ``seconds``."""
    size = 1024
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end or not best:
        start = time.perf_counter()
        torch.mm(a, b)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best
