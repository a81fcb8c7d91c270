"""The work folder: results by content, made once, whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ground.errors import UserError
from pipelines.executor import Item, LocalExecutor, Result
from pipelines.work import RESULT, Work, clear, content_key, done

CALLS: list[int] = []


def double(item: Item, folder: Path) -> Result:
    """Writes a file, and remembers that it was called."""
    CALLS.append(item["value"])
    (folder / "value.txt").write_text(str(2 * item["value"]))
    return {"twice": 2 * item["value"]}


def fail(item: Item, folder: Path) -> Result:
    """Writes half of its work, then fails as the item says."""
    (folder / "half.txt").write_text("half")
    if item["value"] == 3:
        raise OSError(errno.ENOSPC, "No space left on device")
    if item["value"] == 4:
        raise UserError("sources.a", "is broken", "mend it")
    return {}


def make(folder: Path) -> Work:
    """A work folder without progress output."""
    CALLS.clear()
    return Work(folder, LocalExecutor(), lambda *_: None)


def items(*values: int) -> list[tuple[str, Item]]:
    return [(content_key(value=value), {"value": value}) for value in values]


def test_results_come_in_order_and_only_what_is_missing_is_made(tmp_path: Path) -> None:
    work = make(tmp_path)
    assert [made.result["twice"] for made in work.run("stage", double, items(1, 2))] == [2, 4]
    made = work.run("stage", double, items(2, 5, 1))
    assert [entry.result["twice"] for entry in made] == [4, 10, 2]
    assert CALLS == [1, 2, 5]
    assert [(entry.folder / "value.txt").read_text() for entry in made] == ["4", "10", "2"]


def test_equal_items_are_made_once(tmp_path: Path) -> None:
    assert len(make(tmp_path).run("stage", double, items(7, 7))) == 2
    assert CALLS == [7]


def test_a_failed_item_leaves_nothing_behind_and_is_made_again(tmp_path: Path) -> None:
    work = make(tmp_path)
    with pytest.raises(UserError, match=r"sources\.a"):
        work.run("stage", fail, items(1, 4, 2))
    (first, failed, later) = (tmp_path / "stage" / key for key, _ in items(1, 4, 2))
    assert done(first) and not failed.exists() and not later.exists()
    assert not list(tmp_path.glob("*/.*"))


def test_a_full_disk_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"curation\.work: cannot write .* \(No space left on device\); make room"):
        make(tmp_path).run("stage", fail, items(3))


def test_a_folder_without_result_is_not_done(tmp_path: Path) -> None:
    """What a kill between two files leaves is never taken for complete."""
    work = make(tmp_path)
    (key, item), *_ = items(1)
    leftover = tmp_path / "stage" / f".{key}.abc.tmp"
    leftover.mkdir(parents=True)
    (leftover / "value.txt").write_text("?")
    clear(tmp_path)
    assert leftover.exists()  # another curation may be at it
    os.utime(leftover, (0, 0))
    clear(tmp_path)
    assert not leftover.exists()
    (made,) = work.run("stage", double, [(key, item)])
    assert (made.folder / RESULT).is_file() and made.result == {"twice": 2}


def test_keys_tell_contents_apart() -> None:
    assert content_key(a=1, b=2) == content_key(b=2, a=1) != content_key(a=1, b=3)
