"""A Hugging Face folder that everyone loads: from the engine at the end of a run, from a checkpoint, from another folder.

config.json, generation_config.json   of the model, as ``save_pretrained`` writes them
model*.safetensors                    the weights, in several files when they are large
tokenizer.json, ...                   the tokenizer of the token store
README.md                             the model card, where there is one (``model_card.py``)
export.json                           what was exported, and the digest of every file above but the card
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ground.errors import CorruptError, UserError
from ground.files import canonical_json, digest_file, write_atomic
from training.config import ModelConfig
from training.consolidate import Weights, read_weights
from training.model import build_model

Card = Callable[[str], str]
"""Makes the text of a model card, given the type of the weights (``bfloat16``)."""

EXPORT, CARD = "export.json", "README.md"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def export_model(engine: Any, tokenizer: Path, target: Path, *, zero_stage: int) -> None:
    """Write ``target`` (safetensors, configuration, tokenizer) from rank 0; all ranks call this together.

    The folder appears whole under its name or not at all.
    """
    weights = _whole_weights(engine, zero_stage)
    if dist.get_rank() == 0:
        write_folder(engine.module, weights, target, tokenizer=tokenizer)
    if dist.get_world_size() > 1:
        dist.barrier()


def export_checkpoint(
    checkpoint: Path,
    model: ModelConfig,
    target: Path,
    *,
    vocabulary: int,
    end_of_document: int,
    tokenizer: Path,
    dtype: torch.dtype | None,
    about: Mapping[str, Any],
    card: Card,
) -> None:
    """Write the model of an undamaged checkpoint (``consolidate.require_undamaged``) as ``target``.

    Args:
        model: its ``base`` must still be readable: the configuration comes from there.
        vocabulary, end_of_document: of the store, for ``init: random``.
        dtype: see ``consolidate.read_weights``.
        about: what ``export.json`` says of it.
        card: makes the model card.

    Raises:
        CorruptError: the weights are not those of this model, or DeepSpeed's files do not fit together.
        UserError: the base cannot be found or read.
    """
    shell = model_shell(model, vocabulary=vocabulary, end_of_document=end_of_document)
    expected = dict(shell.named_parameters())  # a tied one under one name
    weights = read_weights(checkpoint, {*expected, *(name for name, _ in shell.named_buffers())}, dtype)
    _require_fit(expected, weights, checkpoint)
    shell.to(next(iter(weights.values())).dtype)
    write_folder(shell, weights, target, tokenizer=tokenizer, about=about, card=card)


def export_folder(
    source: Path, target: Path, *, dtype: torch.dtype | None, about: Mapping[str, Any], card: Card
) -> None:
    """Write the model of a Hugging Face folder, with its tokenizer, as ``target``.

    Raises:
        CorruptError: a file of it differs from what ``export_model`` wrote.
        UserError: it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM

    _require_digests(source)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype or "auto", use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError("RUN", f"{source} cannot be loaded ({reason})", "export a checkpoint with --step") from None
    write_folder(model, model.state_dict(), target, tokenizer=source, about=about, card=card)


def model_shell(config: ModelConfig, *, vocabulary: int, end_of_document: int) -> Any:
    """The model of a run without its weights (on torch's ``meta`` device, which takes no memory).

    Raises:
        UserError: the base's configuration cannot be read.
    """
    if config.init == "random":
        with torch.device("meta"):
            return build_model(
                config, vocabulary=vocabulary, end_of_document=end_of_document, seed=0, checkpointing=False
            )
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    base = config.base
    assert base is not None  # validated by ModelConfig
    options: dict[str, Any] = {"local_files_only": Path(base).is_dir(), "trust_remote_code": False}
    try:
        settings = AutoConfig.from_pretrained(base, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        mend = "put the base model back where it was"
        raise UserError("model.base", f"{base!r} cannot be read ({reason})", mend) from None
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(settings, trust_remote_code=False)  # type: ignore[no-untyped-call]
    with suppress(OSError):  # the base has none: the model's own, made from its configuration, stays
        shell.generation_config = GenerationConfig.from_pretrained(base, **options)
    return shell


def write_folder(
    model: Any,
    weights: Weights,
    target: Path,
    *,
    tokenizer: Path,
    about: Mapping[str, Any] | None = None,
    card: Card | None = None,
) -> None:
    """Write a model's folder under a temporary name and put it in the place of ``target``.

    Args:
        model: a transformers model, for its configuration and which weights are tied; its own weights are not looked at.
        weights: all of them, by name; saving empties the mapping.
        tokenizer: folder whose files with names like a tokenizer's are copied.
        about: further entries of ``export.json``.
        card: makes the text of ``README.md``.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    with _with_cache(model.config):
        model.save_pretrained(temporary, state_dict=weights, safe_serialization=True)
    for file in sorted(tokenizer.iterdir()):
        if file.is_file() and not _is_model_file(file.name):
            shutil.copy2(file, temporary / file.name)
    files = {file.name: digest_file(file) for file in sorted(temporary.iterdir())}
    write_atomic(temporary / EXPORT, canonical_json({**(about or {}), "dtype": dtype, "files": files}))
    if card is not None:
        write_atomic(temporary / CARD, card(dtype))
    _put_in_place(temporary, target)


def read_about(folder: Path) -> dict[str, Any] | None:
    """What ``export.json`` of a folder says; None where no export wrote the folder."""
    try:
        about = json.loads((folder / EXPORT).read_text())
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) else None


def _require_digests(folder: Path) -> None:
    """Compare the files of a folder with ``export.json``, which folders of older versions lack."""
    about = read_about(folder)
    for name, digest in (about or {}).get("files", {}).items():
        file = folder / name
        if not file.is_file() or digest_file(file) != digest:
            raise CorruptError("RUN", f"{file} does not match its checksum", "export a checkpoint with --step")


def _require_fit(expected: Mapping[str, torch.Tensor], weights: Weights, checkpoint: Path) -> None:
    """Every parameter must be there, in its shape; saving would take what there is."""
    for name, parameter in expected.items():
        shape = tuple(parameter.shape)
        found = tuple(weights[name].shape) if name in weights else None
        if found != shape:
            problem = f"{checkpoint} has {name} in the shape {found} instead of {shape}"
            raise CorruptError("checkpoint", problem, "check that the base model is the one the run began with")


@contextmanager
def _with_cache(config: Any) -> Iterator[None]:
    """Training switches the cache off; whoever generates with the model wants it on."""
    before = config.use_cache
    config.use_cache = True
    try:
        yield
    finally:
        config.use_cache = before


def _is_model_file(name: str) -> bool:
    """Whether a file of a model's folder is something other than its tokenizer's."""
    own = {"config.json", "generation_config.json", "model.safetensors.index.json", EXPORT, CARD}
    return name in own or name.startswith(".") or name.endswith((".safetensors", ".bin", ".pt"))


def _put_in_place(temporary: Path, target: Path) -> None:
    """Give a finished folder its name; what had it before goes only then."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _whole_weights(engine: Any, zero_stage: int) -> Weights:
    """Full weights on rank 0's CPU (elsewhere an empty dict), one parameter at a time under ZeRO-3."""
    if zero_stage < 3:
        return {name: value.detach().cpu() for name, value in engine.module.state_dict().items()}
    import deepspeed  # loaded already by the engine; imported here to keep this module cheap

    weights = {}
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            if dist.get_rank() == 0:
                weights[name] = parameter.detach().cpu().clone()
    return weights
