"""Counts against the real model, and FLOPs against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from training.config import Architecture
from training.flops import device_peak, flops_per_token, measure_cpu_peak, parameter_count

SHAPES = [
    Architecture(hidden_size=32, layers=2, heads=4, kv_heads=2, intermediate_size=64),
    Architecture(hidden_size=32, layers=1, heads=4, intermediate_size=48, tied_embeddings=False),
    Architecture(hidden_size=48, layers=3, heads=6, kv_heads=1, intermediate_size=100, tied_embeddings=False),
]
LLAMA_3_8B = Architecture(
    hidden_size=4096, layers=32, heads=32, kv_heads=8, intermediate_size=14336, tied_embeddings=False
)
SMOL_135M = Architecture(hidden_size=576, layers=30, heads=9, kv_heads=3, intermediate_size=1536)


def real_count(shape: Architecture, vocabulary: int) -> int:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads or shape.heads,
        intermediate_size=shape.intermediate_size,
        tie_word_embeddings=shape.tied_embeddings,
    )
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LlamaForCausalLM(config).parameters())


@pytest.mark.parametrize("shape", [*SHAPES, SMOL_135M])
def test_count_is_that_of_the_real_model(shape: Architecture) -> None:
    assert parameter_count(shape, 300) == real_count(shape, 300)


def test_published_counts() -> None:
    assert parameter_count(LLAMA_3_8B, 128_256) == 8_030_261_248
    assert parameter_count(SMOL_135M, 49_152) == 134_515_008


def test_flops_by_hand() -> None:
    shape = SHAPES[1]
    # Attention 4 x 32 x 32, feed-forward 3 x 32 x 48, three norms, output matrix 10 x 32; the input one is looked up.
    multiplied = 4 * 32 * 32 + 3 * 32 * 48 + 3 * 32 + 10 * 32
    assert flops_per_token(shape, 10, 64) == 6 * multiplied + 12 * 1 * 32 * 64


def test_a_tied_matrix_counts_once_and_multiplies() -> None:
    untied = SHAPES[0].model_copy(update={"tied_embeddings": False})
    assert flops_per_token(SHAPES[0], 300, 64) == flops_per_token(untied, 300, 64)


@pytest.mark.parametrize(
    ("name", "bf16", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", True, 989e12),
        ("NVIDIA H100 PCIe", True, 756e12),
        ("NVIDIA A100-SXM4-80GB", True, 312e12),
        ("NVIDIA A100-SXM4-80GB", False, 19.5e12),
        ("NVIDIA L40S", True, 362e12),
        ("NVIDIA L4", True, 121e12),
        ("Tesla T4", False, 8.1e12),
        ("NVIDIA GeForce GTX 1080", True, None),
    ],
)
def test_rates_by_device_name(name: str, bf16: bool, peak: float | None) -> None:
    assert device_peak(name, bf16) == peak


def test_a_cpu_is_measured() -> None:
    assert measure_cpu_peak(0.01) > 1e8
