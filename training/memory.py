"""Bytes of GPU memory that training needs, per ZeRO stage, and what to change when they do not fit.

Nothing here touches a device. The model's states follow DeepSpeed's own code (0.19, ``runtime/engine.py``,
``runtime/zero/stage_1_and_2.py``, ``runtime/zero/stage3.py``, ``runtime/fp16/unfused_optimizer.py``), which differs from the
count of Rajbhandari et al. (2020, "ZeRO", section 5: 2 + 2 + 12 bytes a parameter) in three places:

- In fp32, stages 1 to 3 still clone the partition that they update, so that the "master copy" costs 4 bytes there too.
- In fp32 stage 2 fills a partition with a micro-batch's gradients beside the sum of the earlier ones: twice the gradients
  when batches are accumulated, from the first full bucket of a backward pass on.
- The update flattens the gradients of the partition; it happens when activations are gone, so the larger one counts.

With 16 bits gradients are summed in fp32 (``engine.py``), 4 bytes each instead of 2; stages 0 and 1 hold them all.

Where states wait in CPU memory (``training.offload``) they count nothing here; gradients count as if they stayed, which at
stages 1 to 3 is more than there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ground.errors import UserError
from training.chunked_loss import chunk_tokens
from training.config import Architecture, TrainingConfig
from training.flops import parameter_count

GB = 1e9
"""Decimal, as on data sheets; a device then reports at least this much to programs."""

STAGES = (0, 1, 2, 3)
OVERHEAD = 2.0 * GB
"""Assumed, not measured: CUDA context and kernels (0.5 GB), NCCL's buffers (0.5 GB), fragmentation (1 GB)."""

_LARGE_LOGITS = GB  # bytes from which ``loss: auto`` computes them for some tokens at a time
_CPU_TOKENS = 1024  # of a forward pass on CPU; see choose_micro_batch

_BUCKET = 500_000_000  # elements; DeepSpeed's default reduce_bucket_size, allocated whatever the model's size
_LIVE = 1_000_000_000  # elements; its stage3_max_live_parameters, and sub_group_size of the update

# GB of one device, from the makers' data sheets. A name may hold more words; the longest key whose words it holds counts.
_GPU_GB = {
    "B200": 180,
    "H200": 141,
    "H100": 80,
    "H100-NVL": 94,
    "A100": 80,
    "A100-40GB": 40,
    "L40S": 48,
    "A40": 48,
    "A6000": 48,
    "A10": 24,
    "L4": 24,
    "RTX-4090": 24,
    "RTX-3090": 24,
    "V100": 16,
    "V100-32GB": 32,
    "T4": 16,
}


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU at the highest point of a step; the parts sum to ``total``."""

    weights: float
    gradients: float
    optimizer: float
    """fp32 master copy and the two moments of Adam."""
    activations: float
    logits: float
    buffers: float
    """Reduction bucket, gathered parameters (stage 3), and what the update needs beyond the memory of activations."""
    overhead: float = OVERHEAD

    @property
    def states(self) -> float:
        """What a batch of any size costs."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        return self.states + self.activations + self.logits + self.buffers + self.overhead


@dataclass(frozen=True)
class Load:
    """What decides about memory: the model and how it is trained."""

    shape: Architecture
    vocabulary: int
    training: TrainingConfig
    half: bool = True
    """16-bit mixed precision; False: fp32."""

    def at(self, **changes: object) -> Load:
        """The same with other training settings, which need not divide the batch."""
        return Load(self.shape, self.vocabulary, self.training.model_copy(update=changes), self.half)


def gpu_bytes(name: str) -> float | None:
    """Data-sheet memory of a GPU by its name (``H100``, ``NVIDIA A100-SXM4-40GB``), or None when it is not in the table."""
    words = set(_split(name))
    matching = [key for key in _GPU_GB if set(_split(key)) <= words]
    return _GPU_GB[max(matching, key=len)] * GB if matching else None


def named_gpu_bytes(name: str) -> float:
    """Memory of the GPU type that a recipe names.

    Raises:
        UserError: it is not in the table.
    """
    found = gpu_bytes(name)
    if found is None:
        raise UserError("training.gpu", f"{name!r} is not in the table of GPUs", f"use one of {', '.join(_GPU_GB)}")
    return found


def activation_bytes(shape: Architecture, tokens: int, *, half: bool, checkpointing: bool) -> float:
    """Bytes that the forward pass keeps for the backward pass, without the logits.

    The method is that of Korthikanti et al. (2022, "Reducing Activation Recomputation in Large Transformer Models",
    section 4): add up the inputs that each operation keeps. Theirs is a block with dropout, LayerNorm and a feed-forward
    layer of width 4 h: s b h (34 + 5 a s / h) bytes. Ours is in ``block_bytes``; after the last block stands one more norm.
    With checkpointing a block keeps only its input: e h bytes a token.

    Args:
        tokens: sequences x length, of one micro-batch.
    """
    block = _element(half) * shape.hidden_size * tokens if checkpointing else block_bytes(shape, tokens, half=half)
    return shape.layers * block + _norm(shape, half) * tokens


def block_bytes(shape: Architecture, tokens: int, *, half: bool) -> float:
    """Bytes that one transformer block keeps for its backward pass.

    A token, with h the width, k the key width (kv_heads x h / heads), f the feed-forward width, e bytes an element (2 or 4):

    - two RMSNorms, each: its input in fp32 (4 h), the normalised values (e h), its output, input of the matrices (e h);
    - attention, whose kernel keeps no L x L scores: queries, keys, values and output (e (2 h + 2 k)), and one fp32
      log-sum a head (4 heads); there is no dropout; all blocks share the position tables, which are negligible;
    - gated feed-forward: gate, silu(gate), up and their product (4 e f).

    So 2 (4 + 2 e) h + e (2 h + 2 k + 4 f) + 4 heads: 20 h + 4 k + 8 f + 4 heads bytes for e = 2.
    """
    keys = shape.hidden_size // shape.heads * (shape.kv_heads or shape.heads)
    matrices = _element(half) * (2 * shape.hidden_size + 2 * keys + 4 * shape.intermediate_size)
    return float(tokens * (2 * _norm(shape, half) + matrices + 4 * shape.heads))


def trained_parameters(shape: Architecture, vocabulary: int, training: TrainingConfig) -> int:
    """Parameters that learn: all but those that ``training/freeze.py`` freezes."""
    whole = parameter_count(shape, vocabulary)
    bottom, top = training.freeze_bottom, training.freeze_top
    block = whole - parameter_count(shape.model_copy(update={"layers": shape.layers - 1}), vocabulary)
    matrices = min(bool(bottom) + bool(top), 1 if shape.tied_embeddings else 2)  # embeddings, head
    frozen = (bottom + top) * block + matrices * vocabulary * shape.hidden_size + bool(top) * shape.hidden_size
    return whole - frozen


def logit_bytes(vocabulary: int, tokens: int) -> float:
    """Bytes of the loss at its highest point, in the backward pass: fp32 log-probabilities and the gradients of these and
    of the logits, 12 a token and word. (The forward pass needs less: logits, their fp32 copy, log-probabilities.)
    """
    return 12.0 * vocabulary * tokens


def chunks_logits(training: TrainingConfig, vocabulary: int, *, gpu: bool) -> bool:
    """Whether the loss is computed for some tokens at a time (``chunked_loss.py``): what ``training.loss`` means."""
    if training.loss == "auto":
        return gpu and logit_bytes(vocabulary, training.micro_batch * training.sequence_length) > _LARGE_LOGITS
    return training.loss == "chunked"


def memory(load: Load) -> Memory:
    """Memory of one GPU when ``load.training`` runs."""
    training, element = load.training, _element(load.half)
    stage, workers = training.zero_stage, training.workers
    whole = parameter_count(load.shape, load.vocabulary)
    learning = trained_parameters(load.shape, load.vocabulary, training)
    own = -(-learning // workers)  # parameters of one worker's partition
    accumulates = training.batch_sequences > workers * training.micro_batch
    held_gradients = {0: learning, 1: learning, 2: own * (2 if accumulates and not load.half else 1), 3: own}[stage]
    updated = own if stage else learning
    offloaded = training.offload != "none"
    has_master = load.half or stage > 0
    tokens = training.micro_batch * training.sequence_length
    activations = activation_bytes(load.shape, tokens, half=load.half, checkpointing=training.activation_checkpointing)
    chunked = chunks_logits(training, load.vocabulary, gpu=True)
    logits = logit_bytes(load.vocabulary, min(tokens, chunk_tokens(load.vocabulary)) if chunked else tokens)
    if training.activation_checkpointing:  # one block at a time is whole again, when the logits are gone
        activations += max(0.0, block_bytes(load.shape, tokens, half=load.half) - logits)
    gathered = element * min(whole, _LIVE) if stage == 3 else 0
    widened = 0.0 if offloaded else _update_bytes(training, updated, half=load.half)
    weights = 0 if training.offload == "parameters" else element * (-(-whole // workers) if stage == 3 else whole)
    return Memory(
        weights=float(weights),
        gradients=4.0 * held_gradients,
        optimizer=0.0 if offloaded else float((12 if has_master else 8) * updated),
        activations=activations,
        logits=logits,
        buffers=_bucket_bytes(load, learning) + gathered + max(0.0, widened - activations - logits - gathered),
    )


def largest_micro_batch(load: Load, capacity: float) -> int:
    """Most sequences in a forward pass that fit and divide the global batch over the workers; 0: not even one fits."""
    share = load.training.batch_sequences // load.training.workers
    fitting = (m for m in range(share, 0, -1) if share % m == 0 and memory(load.at(micro_batch=m)).total <= capacity)
    return next(fitting, 0)


def choose_micro_batch(load: Load, capacity: float | None, *, gpu: bool, kept: int | None = None) -> int:
    """The number that ``training.micro_batch: auto`` stands for.

    On GPU the most that fit; larger matrices make better use of it. On CPU the most that make up 1,024 tokens, at least one
    sequence: a 14 M model on one core ran at 690-740 tokens/s in passes of 512 and 1,024 tokens, 657 in passes of 256, 646 of
    2,048 and 525 of 4,096, which leave the caches.

    Args:
        capacity: memory of the GPU in bytes, if known.
        kept: the number that the run began with, if it did.

    Raises:
        UserError: the GPU's memory is not known, or not even one sequence fits.
    """
    share = load.training.batch_sequences // load.training.workers
    if kept and share % kept == 0:
        return kept
    if not gpu:
        most = max(1, _CPU_TOKENS // load.training.sequence_length)
        return next(size for size in range(min(most, share), 0, -1) if share % size == 0)
    if capacity is None:
        raise UserError(
            "training.micro_batch",
            "auto needs to know the GPU's memory",
            "name its type, training.gpu=H100, or give a number",
        )
    found = largest_micro_batch(load, capacity)
    if not found:
        raise UserError(
            "training.micro_batch", "auto finds none that fits", advice(load.at(micro_batch=1), capacity) or ""
        )
    return found


def advice(load: Load, capacity: float) -> str | None:
    """One line: the mildest change that makes the load fit ``capacity`` bytes, or None when it fits already.

    Mild means, in this order: nothing recomputed and little sent. A smaller micro-batch, a higher stage, checkpointing,
    several of them, more workers.
    """
    need = memory(load).total
    if need <= capacity:
        return None
    start = f"about {need / GB:.1f} GB are needed, {capacity / GB:.0f} GB there: "
    for change in _changes(load):
        candidate = load.at(**change)
        size = min(largest_micro_batch(candidate, capacity), load.training.micro_batch)
        if not size:
            continue
        if size != load.training.micro_batch:
            change["micro_batch"] = size
        settings = " ".join(f"training.{name}={str(value).lower()}" for name, value in change.items())
        return f"{start}set {settings} ({memory(candidate.at(micro_batch=size)).total / GB:.1f} GB)"
    smallest = load.at(zero_stage=3, activation_checkpointing=True, micro_batch=1)
    need = memory(smallest).total
    return f"{start}even ZeRO 3 with checkpointing and micro_batch 1 needs {need / GB:.1f} GB; {_last_resort(smallest, capacity)}"


def _changes(load: Load) -> Iterator[dict[str, object]]:
    training = load.training
    stages = [s for s in STAGES if s >= training.zero_stage] if training.workers > 1 else [training.zero_stage]
    checkpointing = [True] if training.activation_checkpointing else [False, True]
    for recompute in checkpointing:
        for stage in stages:
            change: dict[str, object] = {}
            if stage != training.zero_stage:
                change["zero_stage"] = stage
            if recompute != training.activation_checkpointing:
                change["activation_checkpointing"] = True
            yield change


def _last_resort(smallest: Load, capacity: float) -> str:
    """More workers when they would help, else a shorter sequence or a larger GPU."""
    workers, sequences = smallest.training.workers, smallest.training.batch_sequences
    for more in range(workers + 1, sequences + 1):
        if sequences % more == 0 and memory(smallest.at(workers=more)).total <= capacity:
            return f"{more} workers would do"
    return "take a GPU with more memory, a shorter sequence_length or a smaller model"


def _element(half: bool) -> int:
    return 2 if half else 4


def _norm(shape: Architecture, half: bool) -> int:
    """Bytes a token that one RMSNorm keeps."""
    return (4 + 2 * _element(half)) * shape.hidden_size


def _bucket_bytes(load: Load, learning: int) -> float:
    """What gradients are sent from: stages 0 and, with bf16, 1 flatten fp32 sums, the others fill a bucket as they come."""
    training = load.training
    if _all_in_place(training, half=load.half):
        return 4.0 * min(learning, _BUCKET) if training.workers > 1 or load.half else 0.0
    return float(_element(load.half) * _BUCKET)


def _update_bytes(training: TrainingConfig, parameters: int, *, half: bool) -> float:
    """Gradients of the update: flattened, at stage 3 in sub-groups, where they are not kept so."""
    if _all_in_place(training, half=half):
        return 0.0
    return 4.0 * (min(parameters, _LIVE) if training.zero_stage == 3 else parameters)


def _all_in_place(training: TrainingConfig, *, half: bool) -> bool:
    """Whether each worker sums all gradients in fp32 and updates its part from there: stage 0, and DeepSpeed's
    BF16_Optimizer, which takes stage 1 without offload."""
    bf16 = half and training.precision != "fp16" and training.offload == "none"
    return training.zero_stage == 0 or (training.zero_stage == 1 and bf16)


def _split(name: str) -> list[str]:
    return name.upper().replace("-", " ").replace("_", " ").split()
