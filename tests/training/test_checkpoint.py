"""A checkpoint is whole or refused, and knows where the run stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ground.errors import CorruptError, UserError
from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.runs import run_tiny, tiny_job
from tests.training.conftest import SHORT, Finished
from training.checkpoint import POSITION, checkpoint_folder, read_position


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    return shutil.copytree(finished.folder / "checkpoints" / "step-8", tmp_path / "copy")


def test_the_position_says_where_the_run_stands(store: TokenStore, finished: Finished) -> None:
    position = read_position(finished.folder / "checkpoints" / "step-16")
    assert (position.step, position.tokens) == (16, 16 * 512)
    assert sum(position.shares.values()) == 16 * 8
    assert position.job_digest == tiny_job(store, Path("anywhere"), **SHORT).digest()


@pytest.mark.parametrize("text", [None, "", "{", json.dumps({"step": 8}), json.dumps({"step": "x", "tokens": 1})])
def test_without_a_whole_position_it_is_refused(
    store: TokenStore, copy: Path, tmp_path: Path, text: str | None
) -> None:
    if text is None:
        (copy / POSITION).unlink()
    else:
        (copy / POSITION).write_text(text)
    with pytest.raises(CorruptError, match=f"{copy} is incomplete or damaged.*use an earlier one"):
        read_position(copy)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="incomplete or damaged"):
        read_position(tmp_path / "none")


def test_without_the_weights_it_is_refused(store: TokenStore, copy: Path, tmp_path: Path) -> None:
    for folder in [path for path in copy.iterdir() if path.is_dir()]:
        shutil.rmtree(folder)
    with pytest.raises(CorruptError, match="does not match its checksum"):
        run_tiny(store, tmp_path / "run", resume=copy, **SHORT)


def test_a_flipped_bit_in_any_file_is_found_and_named(store: TokenStore, copy: Path, tmp_path: Path) -> None:
    for file in sorted((copy / "state").iterdir()):
        whole = file.read_bytes()
        damaged = bytearray(whole)
        damaged[len(damaged) // 2] ^= 1
        file.write_bytes(bytes(damaged))
        with pytest.raises(CorruptError, match=f"{file.name} does not match its checksum"):
            run_tiny(store, tmp_path / "run", resume=copy, **SHORT)
        file.write_bytes(whole)


def test_a_checkpoint_of_another_run_is_refused(store: TokenStore, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="belongs to a run with other settings"):
        run_tiny(store, tmp_path / "run", resume=copy, **{**SHORT, "learning_rate": 1e-4})


def test_a_resumed_run_counts_the_time_of_all_its_starts(store: TokenStore, copy: Path, tmp_path: Path) -> None:
    position = json.loads((copy / POSITION).read_text())
    (copy / POSITION).write_text(json.dumps(position | {"seconds": 1000.0}))
    outcome = run_tiny(store, tmp_path / "run", resume=copy, **SHORT)[1]
    assert 1000.0 < outcome.seconds < 1500.0


@pytest.fixture
def broken_off(finished: Finished, tmp_path: Path) -> Path:
    """A run's folder with the checkpoints of steps 8 and 16, and what a kill leaves of a third."""
    shutil.copytree(finished.folder / "checkpoints", tmp_path / "run" / "checkpoints")
    shutil.copytree(finished.folder / "checkpoints" / "step-16", tmp_path / "run" / "checkpoints" / ".step-18.tmp")
    return tmp_path / "run"


def spoil(checkpoint: Path) -> str:
    """Flip a bit of the largest file; its name."""
    file = max((checkpoint / "state").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    return file.name


def test_a_run_goes_on_from_its_newest_checkpoint_by_itself(
    store: TokenStore, finished: Finished, broken_off: Path
) -> None:
    started = checkpoint_folder(broken_off / "checkpoints", 16).stat().st_mtime_ns
    reporter, outcome = run_tiny(store, broken_off, **SHORT)
    assert not reporter.notices
    assert reporter.curve("train/loss") == finished.reporter.curve("train/loss")
    assert digest_file(outcome.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")
    assert checkpoint_folder(broken_off / "checkpoints", 16).stat().st_mtime_ns == started  # not written again


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(
    store: TokenStore, finished: Finished, broken_off: Path
) -> None:
    name = spoil(checkpoint_folder(broken_off / "checkpoints", 16))
    reporter, outcome = run_tiny(store, broken_off, **SHORT)
    (notice,) = reporter.notices
    assert f"{name} does not match its checksum" in notice and "step-16" in notice
    assert reporter.curve("train/loss") == finished.reporter.curve("train/loss")
    assert digest_file(outcome.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")
    again = run_tiny(store, broken_off, **SHORT)[0]  # the damaged one was replaced
    assert not again.notices


def test_a_run_does_not_begin_again_when_all_its_checkpoints_are_damaged(store: TokenStore, broken_off: Path) -> None:
    for step in (8, 16):
        spoil(checkpoint_folder(broken_off / "checkpoints", step))
    with pytest.raises(CorruptError, match=r"none is whole.*step-16.*remove .*checkpoints to begin again"):
        run_tiny(store, broken_off, **SHORT)
