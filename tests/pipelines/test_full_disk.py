"""A disk that fills up in mid-curation: one line for the user, and nothing half-valid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ground.errors import UserError
from pipelines.config import SourceConfig
from pipelines.curate import Curation
from pipelines.executor import LocalExecutor
from pipelines.store import MARKER, TokenStore
from pipelines.work import Work
from tests.helpers.disks import mounted
from tests.pipelines.test_curate import CONFIG, curate_here, same_files, write_corpora


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    with mounted(tmp_path / "disk", "size=400k") as folder:
        yield folder


@pytest.mark.parametrize("full", ["work", "store"])
def test_a_full_disk_is_named_and_the_curation_goes_on_elsewhere(tmp_path: Path, small_disk: Path, full: str) -> None:
    sources = write_corpora(tmp_path / "corpora")
    parsed = {name: SourceConfig.model_validate(value) for name, value in sources.items()}
    places = {name: (small_disk if name == full else tmp_path) / name for name in ("work", "store")}
    if full == "store":
        (small_disk / "ballast").write_bytes(b"\0" * 370_000)
    work = Work(places["work"], LocalExecutor(), lambda *_: None)
    with pytest.raises(UserError, match=rf"curation\.{full}: cannot write .* \(No space left on device\); make room"):
        Curation(places["store"], parsed, CONFIG, None, work).run()
    assert not (places["store"] / MARKER).exists()
    assert not list(places["work"].glob("*/.*.tmp"))
    if full == "store":
        (small_disk / "ballast").unlink()
        Curation(places["store"], parsed, CONFIG, None, work).run()
        curate_here(tmp_path / "again", sources)
        same_files(places["store"], tmp_path / "again" / "store")
        TokenStore.open(places["store"], verify=True)
