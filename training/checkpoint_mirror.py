"""A second place for checkpoints: an object store, from which a cluster with empty disks goes on."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from pyarrow import fs

from ground.errors import UserError
from tracking.redact import redact
from training.checkpoint import POSITION, checkpoint_folder, newest_first
from training.position import Position
from training.retention import Retention, kept

_TEMPORARY = ".step-{step}.tmp"


class Mirror:
    """Copies of a run's checkpoints below ``url``; ``position.json`` goes up last and makes one count.

    Raises:
        UserError: ``url`` is none that Arrow can open.
    """

    def __init__(self, url: str, run: str) -> None:
        self._shown = redact(f"{url.rstrip('/')}/{run}")
        try:
            self._files, path = fs.FileSystem.from_uri(url)
        except (OSError, ValueError) as error:
            raise UserError(
                "training.checkpoint_mirror",
                f"{redact(url)!r} cannot be opened ({_reason(error)})",
                "give a URL such as s3://bucket/folder or file:///folder, and the credentials it needs",
            ) from None
        self._root = f"{path.rstrip('/')}/{run}"

    def positions(self) -> list[Position]:
        """Where its complete checkpoints stand, the oldest first.

        Raises:
            OSError: the store cannot be reached.
        """
        selector = fs.FileSelector(self._root, allow_not_found=True, recursive=True)
        names = [info.path for info in self._files.get_file_info(selector) if info.base_name == POSITION]
        found = []
        for name in names:
            with self._files.open_input_file(name) as file:
                found.append(Position.model_validate_json(file.read()))
        return sorted(found, key=lambda position: position.step)

    def upload(self, folder: Path) -> None:
        """Copy a whole checkpoint up.

        Raises:
            OSError: the store cannot be reached, or the checkpoint was removed meanwhile.
        """
        target = f"{self._root}/{folder.name}"
        if self._files.get_file_info(f"{target}/{POSITION}").type != fs.FileType.NotFound:
            self._files.delete_file(f"{target}/{POSITION}")  # of a course that was given up
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != POSITION)
        for path in [*files, folder / POSITION]:
            name = f"{target}/{path.relative_to(folder).as_posix()}"
            self._files.create_dir(name.rsplit("/", 1)[0], recursive=True)
            fs.copy_files(str(path), name, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self._files)

    def prune(self, retention: Retention) -> None:
        """Remove what need not be kept, the mark of completeness first.

        Raises:
            OSError: the store cannot be reached.
        """
        positions = self.positions()
        keep = kept(positions, retention)
        for position in positions:
            if position.step not in keep:
                self._remove(position.step)

    def remove_after(self, step: int) -> None:
        """Remove all checkpoints later than ``step``: they belong to a course that was given up.

        Raises:
            OSError: the store cannot be reached.
        """
        for position in self.positions():
            if position.step > step:
                self._remove(position.step)

    def fetch_newer(self, folder: Path) -> int | None:
        """Bring the newest checkpoint down to ``folder`` if it is newer than all there; its step, or None.

        Raises:
            UserError: the store cannot be reached and there is none here, so that going on might mean to begin again.
        """
        here = newest_first(folder)
        newest = int(here[0].name.split("-")[1]) if here else -1
        try:
            there = self.positions()
            if not there or there[-1].step <= newest:
                return None
            step = there[-1].step
            temporary = folder / _TEMPORARY.format(step=step)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            fs.copy_files(
                f"{self._root}/step-{step}",
                str(temporary),
                source_filesystem=self._files,
                destination_filesystem=fs.LocalFileSystem(),
            )
        except OSError as error:
            if here:
                return None
            raise UserError(
                "training.checkpoint_mirror",
                f"{self._shown} cannot be reached ({_reason(error)}), and there is no checkpoint on this cluster",
                "mend the connection, or leave the field out to begin at the base",
            ) from None
        temporary.rename(checkpoint_folder(folder, step))
        return step

    def _remove(self, step: int) -> None:
        folder = f"{self._root}/step-{step}"
        self._files.delete_file(f"{folder}/{POSITION}")
        self._files.delete_dir(folder)


class MirrorThread:
    """Uploads in the background, always the newest checkpoint; an outage is told and costs nothing else."""

    def __init__(self, mirror: Mirror, retention: Retention, notice: Callable[[str], None]) -> None:
        self._mirror, self._retention, self._notice = mirror, retention, notice
        self._changed = threading.Condition()
        self._next: Path | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="steady-mirror", daemon=True)
        self._thread.start()

    def submit(self, folder: Path) -> None:
        """Upload this one next; one that waits still is passed over."""
        with self._changed:
            self._next = folder
            self._changed.notify()

    def close(self) -> None:
        """Upload what waits and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._closed)
                folder, self._next = self._next, None
            if folder is None:
                return
            try:
                self._mirror.upload(folder)
                self._mirror.prune(self._retention)
            except OSError as error:
                if folder.is_dir():  # else a newer one has taken its place
                    self._notice(f"{folder.name} could not be copied to the mirror ({_reason(error)})")


def _reason(error: Exception) -> str:
    text = redact(str(error)).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200]
