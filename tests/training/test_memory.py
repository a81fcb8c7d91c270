"""Estimates of memory against real models, against DeepSpeed's own engines on CPU, and against numbers worked out by hand."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.distributed._tools.mem_tracker import MemTracker

import training.chunked_loss as chunked_loss
import training.engine as engine_module
from ground.errors import UserError
from tests.helpers.runs import ensure_process_group
from training.config import Architecture, ModelConfig, TrainingConfig
from training.engine import build_engine
from training.flops import parameter_count
from training.freeze import freeze
from training.memory import (
    GB,
    STAGES,
    Load,
    activation_bytes,
    advice,
    block_bytes,
    choose_micro_batch,
    chunks_logits,
    gpu_bytes,
    largest_micro_batch,
    logit_bytes,
    memory,
    named_gpu_bytes,
    trained_parameters,
)
from training.model import build_model, causal_loss

WORDS = 64
SHAPES = [
    Architecture(hidden_size=128, layers=4, heads=4, kv_heads=2, intermediate_size=352),
    Architecture(hidden_size=192, layers=3, heads=6, intermediate_size=256, tied_embeddings=False),
    Architecture(hidden_size=256, layers=2, heads=8, kv_heads=1, intermediate_size=1024),
]
LLAMA_3_8B = Architecture(
    hidden_size=4096,
    layers=32,
    heads=32,
    kv_heads=8,
    intermediate_size=14336,
    max_positions=8192,
    tied_embeddings=False,
)


def llama(workers: int = 16, micro_batch: int = 1, **changes: Any) -> Load:
    """Llama-3-8B at 2048 tokens, 96 sequences a batch."""
    settings = {"sequence_length": 2048, "global_batch_tokens": 96 * 2048, "precision": "bf16"}
    training = TrainingConfig(**(settings | {"workers": workers, "micro_batch": micro_batch} | changes))
    return Load(LLAMA_3_8B, 128_256, training)


def real_model(shape: Architecture, *, half: bool, checkpointing: bool, words: int = WORDS) -> Any:
    config = ModelConfig(init="random", architecture=shape)
    model = build_model(config, vocabulary=words, end_of_document=0, seed=1, checkpointing=checkpointing)
    return model.to(torch.bfloat16 if half else torch.float32).train()


def kept_bytes(model: Any, tokens: torch.Tensor) -> int:
    """Bytes of the different storages, parameters aside, that the forward pass and the loss keep."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}  # tensors, so that no storage is freed and its address used again

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        causal_loss(model, tokens)
    return sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in parameters)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_those_that_autograd_keeps(shape: Architecture, half: bool, checkpointing: bool) -> None:
    tokens = torch.randint(0, WORDS, (2, 192))
    measured = kept_bytes(real_model(shape, half=half, checkpointing=checkpointing), tokens)
    log_probabilities = 4 * WORDS * tokens.numel()
    estimated = activation_bytes(shape, tokens.numel(), half=half, checkpointing=checkpointing)
    assert estimated == pytest.approx(measured - log_probabilities, rel=0.03)


@pytest.mark.parametrize("words", [64, 4096])  # blocks weigh most, logits weigh most
@pytest.mark.parametrize("half", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_peak_of_a_forward_and_backward_pass(words: int, half: bool, checkpointing: bool) -> None:
    shape = SHAPES[0].model_copy(update={"layers": 6})
    model = real_model(shape, half=half, checkpointing=checkpointing, words=words)
    tokens = torch.randint(0, words, (2, 256))
    causal_loss(model, tokens).backward()  # gradients are there from now on
    tracker = MemTracker()
    tracker.track_external(model)
    with tracker:
        causal_loss(model, tokens).backward()
    measured = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    training = TrainingConfig(
        sequence_length=256,
        global_batch_tokens=512,
        micro_batch=2,
        zero_stage=0,
        activation_checkpointing=checkpointing,
    )
    found = memory(Load(shape, words, training, half))
    beside = found.activations + found.logits
    unchanging = 2 * found.weights  # without DeepSpeed gradients are as wide as weights
    assert beside == pytest.approx(measured - unchanging, rel=0.15)


def live_tensors() -> dict[int, torch.Tensor]:
    """Storage address -> a tensor that uses it, for all that Python can reach."""
    gc.collect()
    found: dict[int, torch.Tensor] = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):  # isinstance would ask proxies for their class
            for tensor in (thing, thing.grad if thing.is_leaf else None):
                if tensor is not None:
                    found[tensor.untyped_storage().data_ptr()] = tensor
    return found


@pytest.mark.parametrize(
    ("stage", "precision"),
    [
        (2, "bf16"),
        *(pytest.param(stage, "fp32", marks=pytest.mark.slow) for stage in STAGES),
        *(pytest.param(stage, "bf16", marks=pytest.mark.slow) for stage in (0, 1, 3)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_states_are_those_that_deepspeed_holds(stage: int, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_process_group()
    monkeypatch.setattr(engine_module, "_CPU_BUCKET", 10_000)  # negligible
    shape = Architecture(hidden_size=128, layers=4, heads=4, kv_heads=2, intermediate_size=352, max_positions=64)
    training = TrainingConfig(
        sequence_length=16, global_batch_tokens=32, precision=precision, zero_stage=stage, accelerator="cpu", threads=1
    )
    earlier = live_tensors()  # held, so that none is freed and its address used again
    model = build_model(
        ModelConfig(init="random", architecture=shape), vocabulary=WORDS, end_of_document=0, seed=1, checkpointing=False
    )
    engine = build_engine(model, training, world=1, device=torch.device("cpu"))
    for micro_batch in range(3):  # ends in the middle of the second batch: moments are there, and gradients
        engine.backward(causal_loss(engine, torch.randint(0, WORDS, (1, 16))))
        if micro_batch < 2:
            engine.step()
    measured = sum(t.untyped_storage().nbytes() for address, t in live_tensors().items() if address not in earlier)
    # Between micro-batches stage 2 holds one partition of gradients; while the next one is filled, two.
    once = training.model_copy(update={"global_batch_tokens": 16}) if stage == 2 else training
    assert memory(Load(shape, WORDS, once, precision == "bf16")).states == pytest.approx(measured, rel=0.02)
    engine.destroy()


def test_states_by_hand() -> None:
    """Rajbhandari et al. (2020), figure 1, with gradients in fp32: (2 + 4 + 12) P, then a 64th of 12 P, of 16 P, of all."""
    parameters = parameter_count(LLAMA_3_8B, 128_256)
    factors = {0: 18, 1: 6 + 12 / 64, 2: 2 + 16 / 64, 3: 18 / 64}
    for stage, factor in factors.items():
        load = llama(64, zero_stage=stage, global_batch_tokens=64 * 2048)
        assert memory(load).states == pytest.approx(factor * parameters, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("frozen", [{}, {"freeze_bottom": 1}, {"freeze_top": 1}, {"freeze_bottom": 1, "freeze_top": 1}])
def test_frozen_layers_need_no_states(shape: Architecture, frozen: dict[str, int]) -> None:
    training = TrainingConfig(**frozen, zero_stage=0)
    model = real_model(shape, half=False, checkpointing=False)
    freeze(model, training)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained_parameters(shape, WORDS, training) == learning
    whole = parameter_count(shape, WORDS)
    assert memory(Load(shape, WORDS, training, half=False)).states == 4 * whole + 12 * learning


def test_a_block_by_hand() -> None:
    assert block_bytes(LLAMA_3_8B, 1, half=True) == 20 * 4096 + 4 * 1024 + 8 * 14336 + 4 * 32
    assert logit_bytes(128_256, 2048) == 12 * 128_256 * 2048


def test_parts_sum_to_the_total() -> None:
    found = memory(llama())
    parts = found.weights + found.gradients + found.optimizer + found.activations + found.logits + found.buffers
    assert found.total == pytest.approx(parts + found.overhead)


def test_accumulating_doubles_the_gradients_of_stage_2_in_fp32() -> None:
    once, twice = (replace(llama(48, zero_stage=2, micro_batch=size), half=False) for size in (2, 1))
    assert memory(twice).gradients == 2 * memory(once).gradients


def test_what_is_offloaded_is_not_on_the_gpu() -> None:
    kept, states, all_of_it = (memory(llama(zero_stage=3, offload=o)) for o in ("none", "optimizer", "parameters"))
    assert kept.total - states.total >= kept.optimizer > 0 == states.optimizer == all_of_it.optimizer
    assert states.total - all_of_it.total == kept.weights > 0


@pytest.mark.parametrize("rows", [4, 16])
def test_a_chunked_loss_needs_memory_for_its_chunks(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak of a pass is measured; without chunks the logits would take 4 and 16 times as much."""
    words, length, shape = 8192, 64, SHAPES[0].model_copy(update={"layers": 1})
    monkeypatch.setattr(chunked_loss, "CHUNK_ELEMENTS", words * length)
    model = real_model(shape, half=False, checkpointing=False, words=words)
    chunked_loss.chunk_loss(model)
    tokens = torch.randint(0, words, (rows, length))
    causal_loss(model, tokens).backward()
    tracker = MemTracker()
    tracker.track_external(model)
    with tracker:
        causal_loss(model, tokens).backward()
    measured = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    training = TrainingConfig(
        sequence_length=length, global_batch_tokens=rows * length, micro_batch=rows, zero_stage=0, loss="chunked"
    )
    found = memory(Load(shape, words, training, half=False))
    assert found.logits == logit_bytes(words, length)
    head = 4.0 * words * shape.hidden_size  # a chunk's gradient of it, before it is added
    beside = found.activations + found.logits + head
    assert beside == pytest.approx(measured - found.weights - found.gradients, rel=0.15)


def test_only_large_logits_are_chunked_on_their_own() -> None:
    large = llama().training
    assert chunks_logits(large, 128_256, gpu=True)
    assert not chunks_logits(large, 128_256, gpu=False)
    assert not chunks_logits(large, 32_000, gpu=True)
    assert chunks_logits(large.model_copy(update={"loss": "chunked"}), 8, gpu=False)
    assert not chunks_logits(large.model_copy(update={"loss": "full"}), 128_256, gpu=True)


def test_an_automatic_micro_batch() -> None:
    load = llama(16, micro_batch="auto", zero_stage=3)  # 6 sequences a worker
    assert choose_micro_batch(load, 80 * GB, gpu=True) == largest_micro_batch(load, 80 * GB) > 1
    assert choose_micro_batch(load, None, gpu=True, kept=2) == 2  # the run began so
    assert choose_micro_batch(load, 80 * GB, gpu=True, kept=4) != 4  # which no longer divides
    with pytest.raises(UserError, match=r"training\.micro_batch: auto needs to know .* training\.gpu=H100"):
        choose_micro_batch(load, None, gpu=True)
    with pytest.raises(UserError, match=r"training\.micro_batch: auto finds none that fits; about"):
        choose_micro_batch(load, 10 * GB, gpu=True)


@pytest.mark.parametrize(("length", "expected"), [(2048, 1), (512, 2), (256, 3), (128, 6), (8, 6)])
def test_an_automatic_micro_batch_on_cpu(length: int, expected: int) -> None:
    load = llama(16, micro_batch="auto", sequence_length=length, global_batch_tokens=96 * length)
    assert choose_micro_batch(load, None, gpu=False) == expected


LOADS = st.builds(
    lambda workers, micro, stage, half, recompute, scale: Load(
        LLAMA_3_8B.model_copy(update={"layers": scale, "hidden_size": 128 * scale, "intermediate_size": 400 * scale}),
        32_000,
        TrainingConfig(
            sequence_length=1024,
            global_batch_tokens=5040 * 16 * 1024,
            workers=workers,
            micro_batch=micro,
            zero_stage=stage,
            activation_checkpointing=recompute,
        ),
        half,
    ),
    workers=st.sampled_from([1, 2, 3, 4, 8, 16, 48]),
    micro=st.sampled_from([1, 2, 3, 5, 7, 15]),
    stage=st.sampled_from(STAGES),
    half=st.booleans(),
    recompute=st.booleans(),
    scale=st.integers(1, 48),
)


@given(LOADS, st.integers(1, 20))
def test_a_larger_micro_batch_needs_more(load: Load, more: int) -> None:
    larger = load.at(micro_batch=load.training.micro_batch + more)
    assert memory(larger).activations + memory(larger).logits > memory(load).activations + memory(load).logits
    assert memory(larger).total >= memory(load).total


@given(LOADS)
def test_more_workers_need_no_more(load: Load) -> None:
    assume(load.training.zero_stage > 0)  # at stage 0 the second worker brings a bucket for sending
    assert memory(load.at(workers=2 * load.training.workers)).total <= memory(load).total


@given(LOADS)
def test_a_higher_stage_holds_no_more(load: Load) -> None:
    assume(load.training.workers > 1 and load.training.zero_stage < 3)
    first = 0 if load.half else 1  # a fp32 run gets a second copy of its part with stage 1
    assume(load.training.zero_stage >= first)
    assert memory(load.at(zero_stage=load.training.zero_stage + 1)).states <= memory(load).states


@given(LOADS)
def test_checkpointing_needs_no_more(load: Load) -> None:
    plain, recomputed = (memory(load.at(activation_checkpointing=on)).total for on in (False, True))
    assert recomputed <= plain


@given(LOADS, st.floats(4, 200))
def test_the_largest_micro_batch_fits_and_the_next_does_not(load: Load, gigabytes: float) -> None:
    capacity, share = gigabytes * GB, load.training.batch_sequences // load.training.workers
    found = largest_micro_batch(load, capacity)
    larger = [size for size in range(found + 1, share + 1) if share % size == 0][:3]
    assert all(memory(load.at(micro_batch=size)).total > capacity for size in larger)
    if found:
        assert share % found == 0
        assert memory(load.at(micro_batch=found)).total <= capacity


@given(LOADS, st.floats(4, 200))
def test_what_is_advised_fits(load: Load, gigabytes: float) -> None:
    line = advice(load, gigabytes * GB)
    assert (line is None) == (memory(load).total <= gigabytes * GB)
    if line and ": set " in line:
        settings = dict(word.split("=") for word in line.split(": set ")[1].split() if "=" in word)
        changes = {
            name.removeprefix("training."): {"true": True}.get(value) or int(value) for name, value in settings.items()
        }
        assert memory(load.at(**changes)).total <= gigabytes * GB
        TrainingConfig.model_validate(load.training.model_dump() | changes)  # the recipe would take it


@pytest.mark.parametrize(
    ("load", "gpu", "says"),
    [
        (llama(zero_stage=3), "H100", None),
        (llama(micro_batch=6, zero_stage=3), "H100", "set training.micro_batch="),
        (llama(zero_stage=0), "H100", "set training.zero_stage=1 "),
        (llama(zero_stage=3, sequence_length=8192, global_batch_tokens=96 * 8192), "A100-40GB", "checkpointing=true"),
        (llama(1, zero_stage=3), "H100", "2 workers would do"),
        (llama(96, zero_stage=3, micro_batch=1), "T4", "activation_checkpointing=true"),
        (llama(1, global_batch_tokens=2048), "T4", "take a GPU with more memory"),
    ],
)
def test_advice(load: Load, gpu: str, says: str | None) -> None:
    line = advice(load, named_gpu_bytes(gpu))
    if says is None:
        assert line is None
    else:
        assert line is not None
        assert says in line


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("H100", 80),
        ("NVIDIA H100 80GB HBM3", 80),
        ("NVIDIA H100 NVL", 94),
        ("NVIDIA A100-SXM4-40GB", 40),
        ("A100-80GB", 80),
        ("Tesla V100-SXM2-32GB", 32),
        ("l40s", 48),
        ("NVIDIA GeForce RTX 4090", 24),
    ],
)
def test_memory_by_device_name(name: str, gigabytes: int) -> None:
    assert gpu_bytes(name) == gigabytes * GB


def test_an_unknown_gpu_is_refused() -> None:
    assert gpu_bytes("NVIDIA GeForce GTX 1080") is None
    with pytest.raises(UserError, match=r"'L400'.*use one of.*H100"):
        named_gpu_bytes("L400")
