"""Two commands never write one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.workflow import only_writer
from ground.errors import UserError


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    with only_writer(run, "a"):
        with (
            pytest.raises(UserError, match=r"run a: another command is writing .*; wait for it"),
            only_writer(run, "a"),
        ):
            pass
        with only_writer(tmp_path / "runs" / "b", "b"):
            pass
    with only_writer(run, "a"):
        pass
