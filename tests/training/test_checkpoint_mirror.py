"""Checkpoints in a second place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ground.errors import UserError
from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.runs import run_tiny
from tests.training.conftest import SHORT, Finished
from tests.training.test_control import Asks
from training.checkpoint_mirror import Mirror
from training.control import Request, Stopped


def test_a_cluster_with_empty_disks_goes_on_from_the_mirror(
    store: TokenStore, finished: Finished, tmp_path: Path
) -> None:
    mirror = (tmp_path / "mirror").as_uri()
    with pytest.raises(Stopped):
        run_tiny(store, tmp_path / "run", control=Asks(Request.STOP, at=18), checkpoint_mirror=mirror, **SHORT)
    there = Mirror(mirror, "tiny")
    assert [position.step for position in there.positions()][-1] == 18
    shutil.rmtree(tmp_path / "run")
    reporter, outcome = run_tiny(store, tmp_path / "run", checkpoint_mirror=mirror, **SHORT)
    assert reporter.notices == ["tiny: the checkpoint of step 18 comes from the mirror"]
    assert digest_file(outcome.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")


def test_only_whole_ones_count_and_old_ones_go(store: TokenStore, finished: Finished, tmp_path: Path) -> None:
    mirror = Mirror((tmp_path / "mirror").as_uri(), "tiny")
    for step in (8, 16):
        mirror.upload(finished.folder / "checkpoints" / f"step-{step}")
    assert [position.step for position in mirror.positions()] == [8, 16]
    (tmp_path / "mirror" / "tiny" / "step-16" / "position.json").unlink()  # cut off while it went up
    assert mirror.fetch_newer(tmp_path / "here") == 8
    assert mirror.fetch_newer(tmp_path / "here") is None
    mirror.upload(finished.folder / "checkpoints" / "step-16")
    mirror.remove_after(8)
    assert [position.step for position in mirror.positions()] == [8]


def test_an_outage_is_told_and_training_goes_on(store: TokenStore, finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "mirror").write_text("a file, where a folder should be")
    shutil.copytree(finished.folder / "checkpoints" / "step-8", tmp_path / "run" / "checkpoints" / "step-8")
    mirror = (tmp_path / "mirror").as_uri()
    reporter, outcome = run_tiny(store, tmp_path / "run", checkpoint_mirror=mirror, **SHORT)
    assert any("step-16 could not be copied to the mirror" in notice for notice in reporter.notices)
    assert digest_file(outcome.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")


@pytest.mark.slow
def test_without_any_checkpoint_an_unreachable_mirror_ends_the_run(store: TokenStore, tmp_path: Path) -> None:
    url = "s3://user:secret@bucket/x?endpoint_override=127.0.0.1:9&scheme=http&allow_bucket_creation=false"
    with pytest.raises(UserError, match=r"training.checkpoint_mirror.*cannot be reached") as refused:
        Mirror(url, "tiny").fetch_newer(tmp_path)
    assert "secret" not in str(refused.value)


def test_a_url_of_no_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"training.checkpoint_mirror.*cannot be opened"):
        Mirror("ftp://somewhere", "tiny")
