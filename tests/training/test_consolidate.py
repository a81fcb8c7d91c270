"""What is read from a checkpoint is, bit for bit, what the engine exports that loads it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ground.errors import CorruptError
from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.ranks import run_ranks
from tests.helpers.runs import TINY, ListReporter, ensure_process_group, run_tiny, tiny_job
from tests.training.conftest import FEW, SHORT, Finished
from tests.training.test_export import heldout_loss
from training.checkpoint_loader import load_checkpoint
from training.config import ModelConfig
from training.consolidate import read_weights, require_undamaged
from training.control import Control
from training.export import CARD, EXPORT, export_checkpoint, export_model
from training.job import Job
from training.setup import prepare

UNTIED = ModelConfig(init="random", architecture=TINY.model_copy(update={"tied_embeddings": False}))


def export(job: Job, checkpoint: Path, target: Path, dtype: torch.dtype | None = None) -> Path:
    """The checkpoint's model, without any engine."""
    store = TokenStore.open(job.store)
    export_checkpoint(
        checkpoint,
        job.model,
        target,
        vocabulary=store.manifest.vocabulary,
        end_of_document=store.manifest.end_of_document,
        tokenizer=store.tokenizer_path,
        dtype=dtype,
        about={},
        card=str,
    )
    return target


def export_by_engine(job: Job, checkpoint: Path, target: Path) -> Path:
    """The same through an engine that loads the checkpoint, as at the end of a run."""
    ensure_process_group()
    parts = prepare(job, ListReporter(), device=torch.device("cpu"), resume=checkpoint, control=Control())
    try:
        load_checkpoint(parts.engine, checkpoint)
        export_model(parts.engine, parts.store.tokenizer_path, target, zero_stage=job.training.zero_stage)
    finally:
        parts.close()
    return target


def require_same_folders(one: Path, other: Path) -> None:
    names = {path.name for path in one.iterdir()} - {CARD, EXPORT}
    assert names == {path.name for path in other.iterdir()} - {CARD, EXPORT}
    for name in names:
        assert digest_file(one / name) == digest_file(other / name), name


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"freeze_bottom": 1}, id="fp32, frozen"),
        pytest.param({"precision": "bf16"}, id="bf16", marks=pytest.mark.slow),
        pytest.param(
            {"precision": "bf16", "freeze_top": 1, "model": UNTIED}, id="bf16, frozen, untied", marks=pytest.mark.slow
        ),
    ],
)
def test_a_checkpoint_gives_the_folder_that_its_engine_would_write(
    store: TokenStore, tmp_path: Path, stage: int, changes: dict[str, Any]
) -> None:
    changes = FEW | changes | {"zero_stage": stage, "checkpoint_tokens": 2 * 512}
    run_tiny(store, tmp_path / "run", **changes)
    job, checkpoint = tiny_job(store, tmp_path / "run", **changes), tmp_path / "run" / "checkpoints" / "step-4"
    assert require_undamaged(checkpoint).step == 4
    mine = export(job, checkpoint, tmp_path / "mine")
    require_same_folders(mine, export_by_engine(job, checkpoint, tmp_path / "engine"))
    weights = load_file(mine / "model.safetensors")
    wide = read_weights(checkpoint, weights, torch.float32)
    for name, value in weights.items():
        assert value.dtype == (torch.bfloat16 if "precision" in changes else torch.float32)
        assert torch.equal(wide[name].to(value.dtype), value), name  # the training's weights are the rounded masters
    if stage and "precision" in changes:
        assert any(not torch.equal(value.bfloat16().float(), value) for value in wide.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "precision"),
    [
        *((stage, "fp32") for stage in (0, 1, 2, 3)),
        (3, "bf16"),
        *(pytest.param(stage, "bf16", marks=pytest.mark.long) for stage in (0, 1, 2)),
    ],
)
def test_two_workers_leave_the_same_model(store: TokenStore, tmp_path: Path, stage: int, precision: str) -> None:
    changes = FEW | {"checkpoint_tokens": 2 * 512, "zero_stage": stage, "freeze_top": 1, "model": UNTIED}
    changes |= {"precision": precision}
    run_ranks(tiny_job(store, tmp_path / "run", **changes, workers=2), 2)
    alone, checkpoint = tiny_job(store, tmp_path / "run", **changes), tmp_path / "run" / "checkpoints" / "step-4"
    mine = export(alone, checkpoint, tmp_path / "mine")
    weights = load_file(mine / "model.safetensors")
    for name, value in read_weights(checkpoint, weights, torch.float32).items():
        assert torch.equal(value.to(weights[name].dtype), weights[name]), name
    if precision == "fp32":
        require_same_folders(mine, export_by_engine(alone, checkpoint, tmp_path / "engine"))


def test_transformers_finds_the_loss_that_the_run_measured(
    store: TokenStore, finished: Finished, tmp_path: Path
) -> None:
    checkpoint = finished.folder / "checkpoints" / "step-16"
    target = export(tiny_job(store, finished.folder, **SHORT), checkpoint, tmp_path / "model")
    records = [r for r in finished.reporter.records if r["step"] == 16 and "heldout/med/loss" in r["metrics"]]
    model = AutoModelForCausalLM.from_pretrained(target)
    assert heldout_loss(model.eval(), store, "med") == pytest.approx(
        records[0]["metrics"]["heldout/med/loss"], rel=1e-6
    )
    assert model.config.use_cache


def test_a_damaged_file_of_a_checkpoint_is_named(finished: Finished, tmp_path: Path) -> None:
    copy = shutil.copytree(finished.folder / "checkpoints" / "step-8", tmp_path / "copy")
    for file in sorted((copy / "state").iterdir()):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(CorruptError, match=f"{file.name} does not match its checksum; use another step"):
            require_undamaged(copy)
        file.write_bytes(whole)


def test_a_checkpoint_of_another_model_is_refused(store: TokenStore, finished: Finished, tmp_path: Path) -> None:
    wide = TINY.model_copy(update={"intermediate_size": 96})
    job = tiny_job(store, finished.folder, **SHORT, model=ModelConfig(init="random", architecture=wide))
    with pytest.raises(CorruptError, match=r"has model\.layers\.0\.mlp\..* in the shape .* instead of"):
        export(job, finished.folder / "checkpoints" / "step-16", tmp_path / "model")
    assert not any(tmp_path.iterdir())
