"""The work folder: every stage's results by content, so that a second run does only what is missing.

    work/<stage>/<key>/            made by one item; appears whole, by a rename, or not at all
    work/<stage>/<key>/result.json what the item returned

The key is a digest of everything that determines the item's files (inputs, configuration, version of the code), so a
folder that is there never needs to be made again, and two recipes may share one work folder.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ground.errors import UserError
from ground.files import canonical_json, digest_bytes
from pipelines.executor import Executor, Item, LocalExecutor, Result

RESULT = "result.json"
_ABANDONED_S = 6 * 3600  # no item takes hours

Progress = Callable[[str, str], None]
"""Called with a stage and what it found, as work goes on."""


@dataclass(frozen=True)
class Made:
    """One item's folder and result."""

    folder: Path
    result: Result


def content_key(**parts: Any) -> str:
    """Digest of everything that determines an item's files; values are JSON."""
    return digest_bytes(canonical_json(parts))


class Work:
    """Runs stages of items, skipping those that are done.

    Args:
        folder: the work folder; must be one that all workers share.
    """

    def __init__(self, folder: Path, executor: Executor, progress: Progress) -> None:
        self.folder, self.executor, self.progress = folder, executor, progress

    def run(
        self,
        stage: str,
        function: Callable[[Item, Path], Result],
        items: Sequence[tuple[str, Item]],
        *,
        sizes: Sequence[int] = (),
        quiet: bool = False,
        here: bool = False,
    ) -> list[Made]:
        """Make what is missing of ``items`` (key, item) and return all of them, in order.

        Args:
            function: called with an item and an empty folder to write into; importable by name.
            sizes: how much work each item is; the largest go first, so that workers end together.
            quiet: report no progress.
            here: run them in this process, one after the other: for work that takes less time than handing it out.
        """
        folders = [self.folder / stage / key for key, _ in items]
        missing = {key: item for (key, item), folder in zip(items, folders, strict=True) if not done(folder)}
        name = f"{function.__module__}:{function.__qualname__}"
        order = dict(zip((key for key, _ in items), sizes, strict=False))
        tasks = [
            {"function": name, "folder": str(self.folder / stage / key), "item": missing[key]}
            for key in sorted(missing, key=lambda key: -order.get(key, 0))
        ]
        if tasks:
            started = time.perf_counter()
            executor = LocalExecutor() if here else self.executor
            for _ in executor.map(run_item, tasks):
                pass
            if not quiet:
                done_before = f", {len(items) - len(tasks):,} were done" if len(items) > len(tasks) else ""
                took = time.perf_counter() - started
                self.progress(stage, f"{len(tasks):,} item{'s' * (len(tasks) > 1)}{done_before}, {took:.1f} s")
        return [Made(folder, json.loads((folder / RESULT).read_text())) for folder in folders]

    @contextmanager
    def timed(self, stage: str) -> Iterator[Callable[[str], None]]:
        """Report what a stage says it found, and how long it took."""
        started = time.perf_counter()
        said: list[str] = []
        yield said.append
        self.progress(stage, f"{', '.join([*said, ''])}{time.perf_counter() - started:.1f} s")


def done(folder: Path) -> bool:
    """Whether an item's folder is complete."""
    return (folder / RESULT).is_file()


def run_item(task: Item) -> Result:
    """Call the task's function on its item in a temporary folder, then rename that to the task's folder.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    folder = Path(task["folder"])
    if done(folder):
        return {}
    module, name = task["function"].split(":")
    function = getattr(importlib.import_module(module), name)
    temporary = folder.with_name(
        f".{folder.name}.{secrets.token_hex(4)}.tmp"
    )  # two nodes may have the same process ids
    try:
        with writing("curation.work", folder):
            temporary.mkdir(parents=True)
            result = function(task["item"], temporary)
            (temporary / RESULT).write_text(canonical_json(result))
            _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        pa.default_memory_pool().release_unused()  # a worker lives on; what one large item needed is not its size
    return {}


@contextmanager
def writing(field: str, folder: Path) -> Iterator[None]:
    """Tell a full or unwritable disk as the user's to mend.

    Args:
        field: recipe field that names the place.

    Raises:
        UserError: the file system refused.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        mend = f"make room or give another {field}, then run the command again"
        raise UserError(field, f"cannot write {folder} ({reason})", mend) from error


def _publish(temporary: Path, folder: Path) -> None:
    for file in temporary.iterdir():
        if file.is_file():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
    try:
        temporary.rename(folder)
    except OSError:
        # A lost worker's item that was started again may have been finished by both: their files are the same.
        if not done(folder):
            raise


def clear(folder: Path) -> None:
    """Remove what killed workers left behind in a work folder; what is younger may be another curation's."""
    for leftover in folder.glob("*/.*.tmp"):
        if leftover.stat().st_mtime < time.time() - _ABANDONED_S:
            shutil.rmtree(leftover, ignore_errors=True)
