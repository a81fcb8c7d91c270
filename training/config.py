"""The recipe sections that training uses: ``model``, ``training``, ``evaluation``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ground.config import Section

Positive = Annotated[int, Field(ge=1)]

AUTO = 0
"""``micro_batch: auto`` before the plan has chosen a number (``training/memory.py``); a job never holds it."""


class Architecture(Section):
    """Shape of a Llama-architecture model: to build one from nothing, or to plan for one that is not downloaded."""

    hidden_size: Positive
    """Width of the residual stream."""
    layers: Positive
    """Transformer blocks."""
    heads: Positive
    """Query heads."""
    kv_heads: Positive | None = None
    """Key/value heads (grouped-query attention); absent: as many as ``heads``."""
    intermediate_size: Positive
    """Width of the gated feed-forward layer."""
    vocabulary: Positive | None = None
    """Vocabulary size; absent: the tokenizer's."""
    max_positions: Positive = 2048
    """Longest sequence the model is built for, tokens."""
    tied_embeddings: bool = True
    """One matrix for input and output embeddings; saves parameters that a small model misses."""
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    """Base of the rotary position frequencies."""


class ModelConfig(Section):
    """The base model."""

    base: str | None = None
    """Folder or Hugging Face name of the base model. Weights are read as safetensors; remote code is never run."""
    init: Literal["pretrained", "random"] = "pretrained"
    """``random`` builds ``architecture`` from nothing, seeded: for pre-training a base."""
    architecture: Architecture | None = None
    """Needed for ``init: random``. Beside a ``base`` it lets `steady plan` work without downloading the model."""

    @model_validator(mode="after")
    def _complete(self) -> ModelConfig:
        if self.init == "random" and self.architecture is None:
            raise ValueError("init: random needs model.architecture")
        if self.init == "pretrained" and self.base is None:
            raise ValueError("init: pretrained needs model.base")
        return self


class ScheduleConfig(Section):
    """Learning rate over the run (see ``training/schedule.py`` for the formulas and sources)."""

    kind: Literal["cosine", "rewarm", "reuse", "wsd", "constant"] = "cosine"
    """``cosine``: the paper's. ``rewarm``: re-warm and re-decay (Ibrahim et al. 2024). ``reuse``: no warm-up, decay from the
    final rate (Parmar et al. 2024). ``wsd``: warm-up, stable, decay. ``constant``: warm-up, then flat."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the steps spent warming up linearly from 0. Absent: 0.1 (cosine, the paper's), 0.01 (rewarm, wsd, constant),
    0 (reuse)."""
    final_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Last learning rate over the peak. Absent: 0.1 (cosine, rewarm), 0.01 (reuse), 0 (wsd)."""
    decay_ratio: Annotated[float, Field(gt=0, le=1)] = 0.2
    """``wsd`` only: share of the steps in the final decay."""


class AlarmConfig(Section):
    """When a run's own numbers say that something is wrong (see ``training/alarms.py``). Alarms are reported as
    ``alarm/<kind>``; the run goes on, or goes back if ``rollback`` says so."""

    window: Annotated[int, Field(ge=4)] = 32
    """Records of the loss that a new one is compared with; there are no alarms on spikes before that many."""
    patience: Positive = 1
    """How many records in a row must stand out."""
    loss_threshold: Annotated[float, Field(gt=0)] | None = 6.0
    """Deviations (robust: 1.4826 MAD) above the median of the window that make a loss a spike; null: never."""
    gradient_threshold: Annotated[float, Field(gt=0)] | None = 8.0
    """The same for the logarithm of the gradient norm."""
    rollback: Literal["never", "retry", "skip"] = "never"
    """After an alarm: ``never`` go back, so that the user decides (numbers that are not finite end the run); ``retry`` from the
    last checkpoint before it, for faults of the hardware, which do not come back; ``skip`` the batches of the window as well
    (PaLM, Chowdhery et al. 2022, section 5.1)."""
    skip_more: Annotated[int, Field(ge=0)] = 0
    """``skip`` only: batches left out after the window too. PaLM left out 200 to 500 in all."""
    max_rollbacks: Positive = 3
    """How often a run goes back before it ends with an error."""


class TrainingConfig(Section):
    """How the optimiser runs. The defaults are those of Guo et al. (2024), Appendix A, where it states them."""

    sequence_length: Annotated[int, Field(ge=8)] = 2048
    """L, tokens in a sequence."""
    global_batch_tokens: Positive = 1_048_576
    """Tokens in one optimiser step over all workers, a multiple of ``sequence_length``. The paper's stated 340 M cannot be
    literal (15 steps an epoch); 1-3 M is the self-consistent reading."""
    micro_batch: Annotated[int, Field(ge=0), BeforeValidator(lambda v: AUTO if v == "auto" else v)] = 1
    """Sequences in one forward pass of one worker; the rest of the batch is accumulated. ``auto``: the most that fit the GPU's
    memory by the estimate of `steady plan`, or on CPU as many as make up 1,024 tokens, and divide the batch. The number is
    chosen before the run starts, and a run goes on with the number that it began with, since rounding depends on it."""
    workers: Positive = 1
    """Ray Train workers (one GPU each, or CPU cores)."""
    min_workers: Positive | None = None
    """Fewest workers to go on with when machines are lost and no others come; absent: ``workers``. The batch must divide by
    every number between."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """``auto`` takes GPUs when the cluster has enough of them."""
    gpu: str | None = None
    """Type of GPU to plan for, such as ``H100`` or ``A100-40GB``: `steady plan` then says what fits. Absent: this machine's."""
    threads: Positive | None = None
    """CPU threads of a worker; absent: the machine's cores divided by the workers. Only for CPU training."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """``auto``: bf16 on GPU, fp32 on CPU. ``fp16`` is for GPUs without bf16 (V100, T4): the loss is scaled, the scale is found
    by trial, and the batches of the first trials are lost. With 16 bits gradients are still summed in fp32."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 1
    """DeepSpeed ZeRO: 0 nothing, 1 optimiser states, 2 also gradients, 3 also parameters are split over the workers."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """What waits in CPU memory instead of on the GPU: ``optimizer`` (the fp32 weights and moments, updated by the CPU; from
    ``zero_stage`` 1), ``parameters`` (the 16-bit weights too; needs ``zero_stage`` 3)."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third more compute, far less memory."""
    document_masking: bool = False
    """Attention and positions stay within a document. Off: packing documents one after the other without masks is simple and
    fast, and no masking is known of the paper's runs. On, a sequence takes a mask of L x L, and attention its slower kernels."""
    attention: Literal["auto", "sdpa", "flash_attention_2", "eager"] = "auto"
    """Kernel of attention. ``auto``: PyTorch's own (``sdpa``), which chooses flash attention itself where there is no mask; with
    ``document_masking`` on GPU ``flash_attention_2`` if the package flash-attn is there, as it needs no mask of L x L."""
    loss: Literal["auto", "full", "chunked"] = "auto"
    """``full``: all logits at once, 12 bytes a token and word. ``chunked``: some tokens at a time, the head computed once more in
    the backward pass; the same loss up to rounding. ``auto``: chunked on GPU where the logits would take over 1 GB."""
    compile: bool = False
    """Compile the model (torch.compile): minutes at the first steps, faster ones after. Needs a C++ compiler on CPU, Triton on
    GPU."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-5
    """Peak learning rate. 3e-5 suits 3-8 B models, 3e-4 about 1 B (section 5.2)."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over the run."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """AdamW."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW; matrices only, not norms."""
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest global gradient norm. Not stated in the paper; 1.0 is the custom of Llama-type training."""
    freeze_bottom: Annotated[int, Field(ge=0)] = 0
    """Transformer blocks that do not learn, from the lowest; above 0 the input embeddings do not either. A matrix that is
    embeddings and head at once (tied) is frozen by this and by ``freeze_top``."""
    freeze_top: Annotated[int, Field(ge=0)] = 0
    """Transformer blocks that do not learn, from the highest; above 0 the final norm and the head do not either."""
    alarms: AlarmConfig = AlarmConfig()
    """When to warn of a diverging run."""
    checkpoint_tokens: Positive | None = None
    """Tokens between checkpoints; absent: a tenth of the run, so that a kill costs little."""
    keep_checkpoints: Positive = 2
    """How many checkpoints stay on disk: one, and one more in case the last is damaged."""
    keep_best: Annotated[str, Field(pattern=r"^heldout/[^/]+/(loss|bits_per_byte)$")] | None = None
    """A held-out metric such as ``heldout/med/loss``: the checkpoint where it was lowest stays too."""
    keep_every_tokens: Positive | None = None
    """One checkpoint stays for every so many tokens, to look back on the course of the run."""
    checkpoint_mirror: str | None = None
    """URL of an object store or folder (``s3://bucket/folder``, ``gs://...``, ``file:///...``) to which every checkpoint is
    copied in the background, and from which a cluster with empty disks goes on."""
    watchdog_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds without progress after which a worker counts as hung: it ends with a reason, and the run starts again from its
    last checkpoint. Longer than the longest step, evaluation or compilation."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """How often a run starts again by itself from its last checkpoint after a worker dies."""
    log_steps: Positive = 1
    """Optimiser steps between records of loss, rate, gradient norm and speed."""
    peak_flops: Annotated[float, Field(gt=0)] | None = None
    """FLOP/s of one device in the precision used, for MFU and time estimates; absent: a table of GPUs, or a measurement
    of the CPU."""

    @model_validator(mode="after")
    def _divides(self) -> TrainingConfig:
        if self.global_batch_tokens % self.sequence_length:
            raise ValueError(
                f"global_batch_tokens ({self.global_batch_tokens}) is no multiple of sequence_length ({self.sequence_length})"
            )
        if self.fewest_workers > self.workers:
            raise ValueError(f"min_workers ({self.min_workers}) is more than workers ({self.workers})")
        for workers in range(self.fewest_workers, self.workers + 1):
            if self.batch_sequences % (workers * (self.micro_batch or 1)):
                rows = f" x micro_batch {self.micro_batch}" if self.micro_batch else ""
                raise ValueError(
                    f"a global batch has {self.batch_sequences} sequences, which {workers} workers{rows} do not divide"
                )
        return self

    @model_validator(mode="after")
    def _needs_its_stage(self) -> TrainingConfig:
        if self.offload == "optimizer" and self.zero_stage < 1:
            raise ValueError("offload: optimizer needs zero_stage 1 or higher")
        if self.offload == "parameters" and self.zero_stage < 3:
            raise ValueError("offload: parameters needs zero_stage 3")
        if self.precision == "fp16" and self.zero_stage < 1:
            # DeepSpeed's optimiser of stage 0 unscales with the new scale at the step where it grows.
            raise ValueError("precision: fp16 needs zero_stage 1 or higher")
        return self

    @property
    def fewest_workers(self) -> int:
        """Workers that a run needs at least."""
        return self.workers if self.min_workers is None else self.min_workers

    @property
    def batch_sequences(self) -> int:
        """B, sequences in a global batch."""
        return self.global_batch_tokens // self.sequence_length


class EvaluationConfig(Section):
    """Held-out loss per source while training: at steps 0, 1, 2, 4, 8, ... where the gap is, then evenly."""

    points: Positive = 30
    """Even measurements over the run, besides the geometric ones at its start."""
    sequences: Positive = 64
    """Held-out sequences per source (fewer when the source has fewer), the same ones each time."""
    sources: tuple[str, ...] | None = None
    """Sources to measure; absent: all of the store, whether or not the mixture uses them."""
    tasks: str | None = None
    """Multiple-choice tasks to answer with every checkpoint and the finished model, such as ``medical,general`` (as for
    `steady evaluate`), in a process of their own while training goes on; needs ``steady[lm-eval]``. On GPUs it takes one
    that the run does not use, else it happens at the end."""
    tasks_data: str | None = None
    """Folder of JSONL with the tasks' items; absent: lm-eval's own, from the hub."""
    tasks_limit: Positive | None = 200
    """Only the first items of each task: 200 tell differences of 7 points (two standard errors at 50 %) and cost a tenth."""
    layer_updates: bool = True
    """Also measure, at the same steps, how far each layer's weights have gone from the base (``update/...``). Costs 4 bytes of
    CPU memory a weight, over all workers."""
