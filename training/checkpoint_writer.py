"""Writing checkpoints beside the training: a copy of the states is taken at once, a thread writes it while training goes on.

Every rank writes its own files into ``.step-<n>.tmp`` and lists their digests when they are on disk. Rank 0's thread waits
for the lists of all ranks and gives the folder its name. So there is no collective outside the training thread, and a
checkpoint has its name only when it is whole. A checkpoint that cannot be written (full disk) is given up: the ranks learn
it from each other at the next one or at the end, the user is told, and training goes on with the older ones.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ground.files import canonical_json, digest_file, write_atomic
from training.checkpoint import POSITION, RECORDS, TAG, barrier, checkpoint_folder, checksums_name
from training.job import Record
from training.position import Position

_POLL_SECONDS = 0.05
_CLOSE_SECONDS = 30
_PLAIN = (str, bytes, int, float, bool, type(None), torch.Size, torch.dtype, torch.device)


class CheckpointWriter:
    """Writes the checkpoints of one run, one at a time.

    Args:
        folder: of the run's checkpoints, on storage that all ranks share.
        notice: tells the user one line (called on rank 0).
        done: called on rank 0 in the writing thread with each finished checkpoint, such as to remove older ones.
    """

    def __init__(
        self, engine: Any, folder: Path, *, notice: Callable[[str], None], done: Callable[[Path], None]
    ) -> None:
        self._engine, self._folder, self._notice, self._done = engine, folder, notice, done
        self._writing: _Writing | None = None

    def save(self, position: Position, records: Sequence[Record]) -> None:
        """Begin a checkpoint; all ranks call this together. Waits first for the one before, if that is still being written.

        Args:
            records: what rank 0 reported lately. A driver that dies may have read none of it; the resumed run reports it
                again.
        """
        self.settle()
        files = _snapshot(self._engine, position.step)
        target = checkpoint_folder(self._folder, position.step)
        self._writing = _Writing(target, files, position, list(records), self._done)

    def settle(self) -> None:
        """Wait until the checkpoint begun last is whole or given up; all ranks call this together."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        writing.written.wait()
        failures: list[str | None] = [writing.failure] * dist.get_world_size()
        if len(failures) > 1:
            dist.all_gather_object(failures, writing.failure)
        failure = next((text for text in failures if text is not None), None)
        if failure is not None:
            writing.abandon.set()
        writing.thread.join()
        failure = failure or writing.failure  # rank 0's last files may have failed since
        if failure is not None and dist.get_rank() == 0:
            shutil.rmtree(writing.temporary, ignore_errors=True)
            self._notice(
                f"the checkpoint of step {writing.position.step} could not be written ({failure}); older ones stay"
            )

    def close(self) -> None:
        """Let a checkpoint end that is being written, but do not wait for ever for ranks that may be gone."""
        if self._writing is not None:
            self._writing.thread.join(_CLOSE_SECONDS)
            self._writing.abandon.set()


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed attempt left behind; all ranks call this together, before anything is written."""
    if dist.get_rank() == 0:
        for left in folder.glob(".step-*"):
            shutil.rmtree(left, ignore_errors=True)
    barrier()


class _Writing:
    """One checkpoint on its way to the disk."""

    def __init__(
        self,
        target: Path,
        files: list[tuple[str, Any]],
        position: Position,
        records: list[Record],
        done: Callable[[Path], None],
    ) -> None:
        self.temporary = target.with_name(f".{target.name}.tmp")
        self.position = position
        self.failure: str | None = None
        self.written, self.abandon = threading.Event(), threading.Event()
        self._target, self._files, self._records, self._done = target, files, records, done
        self._rank = dist.get_rank()
        self.thread = threading.Thread(target=self._run, name="steady-checkpoint", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._write_own()
        except (OSError, RuntimeError) as error:  # torch says RuntimeError when a disk is full
            self.failure = _reason(error)
        finally:
            self._files.clear()
            self.written.set()
        if self._rank or self.failure or not self._all_listed():
            return
        try:
            self._name()
        except OSError as error:
            self.failure = _reason(error)
        else:
            self._done(self._target)

    def _write_own(self) -> None:
        states = self.temporary / TAG
        states.mkdir(parents=True, exist_ok=True)
        digests = {}
        for name, state in self._files:
            with open(states / name, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            digests[name] = digest_file(states / name)
        write_atomic(self.temporary / checksums_name(self._rank), canonical_json(digests))

    def _all_listed(self) -> bool:
        """Wait for the other ranks' lists; False when one of them failed."""
        lists = [self.temporary / checksums_name(rank) for rank in range(self.position.world)]
        while not all(path.is_file() for path in lists):
            if self.abandon.wait(_POLL_SECONDS):
                return False
        return True

    def _name(self) -> None:
        write_atomic(self.temporary / RECORDS, json.dumps(self._records))
        write_atomic(self.temporary / POSITION, canonical_json(self.position.model_dump()))
        shutil.rmtree(self._target, ignore_errors=True)  # a damaged one, which the run fell back behind
        self.temporary.rename(self._target)


def _snapshot(engine: Any, step: int) -> list[tuple[str, Any]]:
    """This rank's files of a checkpoint, by name, as copies in CPU memory: DeepSpeed saves into a list instead of files."""
    taken: list[tuple[str, Any]] = []
    client_state = {"step": step, "universal_checkpoint_info": {"universal_checkpoint_version": 0.2}}
    with _saving_into(engine, taken):
        engine.save_checkpoint("unused", tag=TAG, save_latest=False, client_state=client_state)
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # copies to pinned memory run beside the kernels
    return taken


@contextmanager
def _saving_into(engine: Any, taken: list[tuple[str, Any]]) -> Iterator[None]:
    own, script = engine.checkpoint_engine, engine._copy_recovery_script
    engine.checkpoint_engine = _taker(own, taken)
    engine._copy_recovery_script = lambda *_: None  # a program beside the states, which `steady export` replaces
    try:
        yield
    finally:
        engine.checkpoint_engine, engine._copy_recovery_script = own, script


def _taker(own: Any, taken: list[tuple[str, Any]]) -> Any:
    """A DeepSpeed checkpoint engine that keeps copies in memory."""

    class Taker(type(own)):  # type: ignore[misc]  # DeepSpeed's class, imported only where training happens
        def __init__(self) -> None:
            self.name = "steady"

        def makedirs(self, path: str, exist_ok: bool = False) -> None:
            """Nothing is written here."""

        def preserves_storage_sharing(self) -> bool:
            return False  # every tensor is copied alone, so DeepSpeed need not copy views first

        def save(self, state_dict: Any, path: str) -> None:
            taken.append((Path(path).name, _copied(state_dict)))

    return Taker()


def _copied(value: Any) -> Any:
    """``value`` with every tensor in it copied to CPU memory."""
    if isinstance(value, torch.Tensor):
        if value.is_cuda:
            copied = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            return copied.copy_(value.detach(), non_blocking=True)
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return type(value)((key, _copied(part)) for key, part in value.items())
    if isinstance(value, _PLAIN):
        return value
    if type(value) in (list, tuple):
        return type(value)(_copied(part) for part in value)
    return copy.deepcopy(value)


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200]
