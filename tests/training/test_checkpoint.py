"""A checkpoint is whole or refused, and knows where the run stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ground.errors import CorruptError, UserError
from pipelines.store import TokenStore
from tests.helpers.runs import run_tiny, tiny_job
from tests.training.conftest import SHORT, Finished
from training.checkpoint import POSITION, read_position


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
