"""A mixture for other trainers: the sequences of a plan in training order, as files in a folder.

    to/settings.json       what determines the files, written first; another mixture is refused
    to/part-00000.parquet  whole steps, in order (jsonl: .jsonl.zst; megatron: .bin and .idx)
    to/.done/00000.json    a part that is finished; a second run makes only what is missing
    to/manifest.json       the settings, and every part with its counts and checksums
    to/COMPLETE            marker, written last: the digest of manifest.json

A part is cut by steps and made from the plan and the store alone, so neither the number of workers nor a kill can be
seen in the files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ground.config import Section
from ground.errors import CorruptError, UserError
from ground.files import canonical_json, digest_bytes, digest_file, write_atomic
from pipelines.config import MixtureConfig
from pipelines.executor import Executor, Item, Result
from pipelines.mix_formats import TEMPORARY, WRITERS, Format
from pipelines.mix_rows import checked_steps, chunks, has_targets
from pipelines.plan import Plan
from pipelines.store import TokenStore
from pipelines.store_cache import StoreCache
from pipelines.store_remote import open_store

SETTINGS, MANIFEST, MARKER = "settings.json", "manifest.json", "COMPLETE"
_DONE = ".done"
_PART_TOKENS = 1 << 24
"""Tokens in a part, about: 64 MiB before compression, so that some thousand parts hold a large run and a small one still
spreads over the cores."""
_REMAKE = "remove the folder and run `steady mix` again"

Progress = Callable[[int, int], None]
"""Called with the parts that are there and the parts in all."""


class MixSettings(Section):
    """What determines the files of a mixture. Equal settings give equal bytes (with the same pyarrow and zstandard)."""

    version: Literal[1] = 1
    format: Format
    text: bool = False
    """Whether rows carry their decoded text (JSONL only)."""
    store: str
    """Digest of the token store."""
    plan: dict[str, Any]
    """``Plan.describe``."""
    first_step: int
    steps: int
    steps_per_part: int
    vocabulary: int
    end_of_document: int
    """Token that follows every document."""
    tokenizer_digest: str
    dtype: Literal["uint16", "uint32"]
    """Of the store's tokens."""
    targets: bool
    """Whether rows carry a target mask."""

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.steps // self.steps_per_part)

    def part_steps(self, index: int) -> range:
        """The steps of the run in one part."""
        first = self.first_step + index * self.steps_per_part
        return range(first, min(first + self.steps_per_part, self.first_step + self.steps))


class MixFile(Section):
    """One file of a part."""

    bytes: int
    digest: str
    """BLAKE3 (128 bits, hex)."""


class MixPart(Section):
    """One part."""

    first_step: int
    steps: int
    sequences: int
    tokens: int
    files: dict[str, MixFile]
    """By name."""


class MixManifest(Section):
    """What a complete mixture holds."""

    settings: MixSettings
    plan_digest: str
    """BLAKE3 of the plan's description."""
    sequences: int
    tokens: int
    parts: tuple[MixPart, ...]


def mix_settings(
    store: TokenStore,
    plan: Plan,
    *,
    format: Format,
    text: bool = False,
    start_step: int = 0,
    steps: int | None = None,
    part_tokens: int = _PART_TOKENS,
) -> MixSettings:
    """The settings of one mixture.

    Raises:
        UserError: the run has no such steps, or the format cannot hold what is asked.
    """
    chosen = checked_steps(plan, start_step, steps)
    targets = has_targets(store, plan)
    if targets and format == "megatron":
        raise UserError("--format", "megatron files cannot hold the store's target mask", "use parquet or jsonl")
    if text and format != "jsonl":
        raise UserError("--text", f"is not for {format} files", "use --format jsonl, or leave it out")
    manifest = store.manifest
    return MixSettings(
        format=format,
        text=text,
        store=store.digest,
        plan=plan.describe(),
        first_step=chosen.start,
        steps=len(chosen),
        steps_per_part=max(1, part_tokens // (plan.batch_sequences * plan.sequence_length)),
        vocabulary=manifest.vocabulary,
        end_of_document=manifest.end_of_document,
        tokenizer_digest=manifest.tokenizer_digest,
        dtype=manifest.dtype,
        targets=targets,
    )


def write_mixture(
    store: TokenStore, settings: MixSettings, to: Path, executor: Executor, progress: Progress | None = None
) -> MixManifest:
    """Write a mixture, or what is missing of it, into the folder ``to``, which all workers must share.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    manifest = _begin(settings, to)
    if manifest is not None:
        return manifest
    missing = [index for index in range(settings.parts) if not _record(to, index).is_file()]
    common = {"to": str(to.resolve()), "store": store.location, "settings": settings.model_dump_json()}
    if store.cache is not None:
        common |= {"cache": str(store.cache.folder), "cache_bytes": str(store.cache.limit_bytes)}
    there = settings.parts - len(missing)
    for _ in executor.map(write_part, [{**common, "part": index} for index in missing]):
        there += 1
        if progress is not None:
            progress(there, settings.parts)
    return _finish(settings, to)


def write_part(item: Item) -> Result:
    """Write one part and then the record that it is there; the executor's function, see ``write_mixture``.

    Raises:
        UserError: the store is not the one of the settings, or the disk refuses.
    """
    to, index = Path(item["to"]), int(item["part"])
    cache = StoreCache(item["cache"], int(item["cache_bytes"])) if "cache" in item else None
    store, plan, settings = _opened(item["store"], item["settings"], cache)
    steps = settings.part_steps(index)
    batch = plan.batch_sequences
    positions = np.arange(steps.start * batch, steps.stop * batch, dtype=np.int64)
    writer = WRITERS[settings.format]
    try:
        names = writer(
            to / f"part-{index:05d}",
            chunks(store, plan, positions),
            dtype=settings.dtype,
            tokenizer=str(store.tokenizer_path) if settings.text else None,
        )
        files = {name: MixFile(bytes=(to / name).stat().st_size, digest=digest_file(to / name)) for name in names}
        part = MixPart(
            first_step=steps.start,
            steps=len(steps),
            sequences=len(positions),
            tokens=len(positions) * plan.sequence_length,
            files=files,
        )
        write_atomic(_record(to, index), canonical_json(part.model_dump(mode="json")))
    except OSError as error:
        raise _refused(to, error) from error
    return {}


def read_mixture(to: Path, *, verify: bool = False) -> MixManifest:
    """The manifest of a complete mixture; every checksum compared when ``verify``.

    Raises:
        UserError: there is no complete mixture.
        CorruptError: the manifest or a file does not match its checksum.
    """
    if not (to / MARKER).is_file():
        raise UserError("--to", f"{to} holds no complete mixture", "run `steady mix` with this folder")
    text = (to / MANIFEST).read_bytes() if (to / MANIFEST).is_file() else b""
    if (to / MARKER).read_bytes() != f"{digest_bytes(text)}\n".encode():
        raise CorruptError("--to", f"{to / MANIFEST} does not match its checksum in {MARKER}", _REMAKE)
    manifest = MixManifest.model_validate_json(text)
    for part in manifest.parts if verify else ():
        for name, file in part.files.items():
            if not (to / name).is_file() or digest_file(to / name) != file.digest:
                raise CorruptError("--to", f"{to / name} does not match its checksum", _REMAKE)
    return manifest


def _begin(settings: MixSettings, to: Path) -> MixManifest | None:
    """The mixture if it is complete; else make the folder ready. Refuses a folder that holds something else."""
    text = canonical_json(settings.model_dump(mode="json"))
    if (to / SETTINGS).is_file():
        if (to / SETTINGS).read_text() != text:
            raise UserError("--to", f"{to} holds another mixture", "give another folder, or remove this one")
    elif to.is_dir() and any(not name.name.endswith(TEMPORARY) for name in to.iterdir()):
        raise UserError("--to", f"{to} is not empty and holds no mixture", "give another folder")
    if (to / MARKER).is_file():
        return read_mixture(to)
    try:
        write_atomic(to / SETTINGS, text)
        for leftover in (*to.glob(f".*{TEMPORARY}"), *to.glob(f"{_DONE}/.*{TEMPORARY}")):
            leftover.unlink()
    except OSError as error:
        raise _refused(to, error) from error
    return None


def _finish(settings: MixSettings, to: Path) -> MixManifest:
    parts = tuple(MixPart.model_validate_json(_record(to, index).read_text()) for index in range(settings.parts))
    for part in parts:
        for name, file in part.files.items():
            if not (to / name).is_file() or (to / name).stat().st_size != file.bytes:
                raise CorruptError("--to", f"{to / name} is missing or has another size than written", _REMAKE)
    manifest = MixManifest(
        settings=settings,
        plan_digest=digest_bytes(canonical_json(settings.plan)),
        sequences=sum(part.sequences for part in parts),
        tokens=sum(part.tokens for part in parts),
        parts=parts,
    )
    text = canonical_json(manifest.model_dump(mode="json"))
    try:
        write_atomic(to / MANIFEST, text)
        write_atomic(to / MARKER, digest_bytes(text) + "\n")
        shutil.rmtree(to / _DONE)
    except OSError as error:
        raise _refused(to, error) from error
    return manifest


def _record(to: Path, index: int) -> Path:
    return to / _DONE / f"{index:05d}.json"


@lru_cache(maxsize=2)
def _opened(path: str, settings_json: str, cache: StoreCache | None) -> tuple[TokenStore, Plan, MixSettings]:
    """What every part of a mixture needs, once per process."""
    settings, store = MixSettings.model_validate_json(settings_json), open_store(path, cache)
    if store.digest != settings.store:
        raise UserError("curation.store", f"{path} has changed while it was read", "run the command again")
    described = settings.plan
    plan = Plan(
        store.sizes,
        MixtureConfig.model_validate(described["mixture"]),
        sequence_length=described["sequence_length"],
        batch_sequences=described["batch_sequences"],
        seed=described["seed"],
    )
    assert plan.describe() == described, path
    return store, plan, settings


def _refused(to: Path, error: OSError) -> UserError:
    reason = error.strerror or type(error).__name__
    return UserError("--to", f"cannot write {to} ({reason})", "make room or give another folder, then run it again")
