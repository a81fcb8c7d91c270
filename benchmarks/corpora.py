"""Corpora for the curation benchmarks: the packaged texts, as many times as asked, each time with its words changed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import orjson
import zstandard
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.harness import ROOT
from pipelines.config import SourceConfig
from pipelines.naming import Role
from pipelines.packaged import write_packaged_corpora
from pipelines.readers import Rejects, plan_splits, read_split
from pipelines.tokenizer import END_OF_TEXT, save_tokenizer

_DOMAIN, _REFERENCE = ("medical_hpo", "medical_icd10"), ("reference",)
_SWAPPED = 0.3  # of the words: enough that no copy is a near duplicate of another
_VOCABULARY, _SAMPLE_TEXTS = 16_384, 5_000


def write_copies(folder: Path, copies: int) -> dict[str, SourceConfig]:
    """Write the packaged corpora ``copies`` times below ``folder`` (the reference once); sources by name."""
    packaged = ROOT / ".steady" / "packaged"
    files = write_packaged_corpora(packaged if packaged.is_dir() else folder / "packaged")
    sources = {}
    for name, file in files.items():
        role: Role = "domain" if name in _DOMAIN else "reference" if name in _REFERENCE else "general"
        paths = []
        for copy in range(1 if role == "reference" else copies):
            path = folder / f"{name}-{copy}.jsonl.zst"
            path.parent.mkdir(parents=True, exist_ok=True)
            with zstandard.open(path, "wb") as out:
                for identity, text in texts_of(file):
                    row = {"id": f"{identity}/{copy}", "text": _changed(text, identity, copy) if copy else text}
                    out.write(orjson.dumps(row) + b"\n")
            paths.append(str(path))
        sources[name] = SourceConfig(role=role, paths=tuple(paths))
    return sources


def write_tokenizer(folder: Path, files: list[Path]) -> Path:
    """A byte-level BPE with GPT-2's pattern, as most models have one, trained on a few thousand of the texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (
        text for file in files for text, _ in zip((t for _, t in texts_of(file)), range(_SAMPLE_TEXTS), strict=False)
    )
    tokenizer.train_from_iterator(texts, trainer)
    save_tokenizer(tokenizer, folder)
    return folder


def texts_of(file: Path) -> Iterator[tuple[str, str]]:
    """Id and text of every document of a file."""
    source = SourceConfig(role="general", paths=(str(file),))
    for split in plan_splits("texts", source, [str(file)], [file.stat().st_size], 1 << 40):
        for documents in read_split(split, source, Rejects()):
            yield from zip(documents.ids, documents.texts, strict=True)


def _changed(text: str, identity: str, copy: int) -> str:
    """The text with some of its words in each other's places; spaces and lines stay."""
    rng = random.Random(f"{identity}/{copy}")
    words = text.split(" ")
    chosen = [index for index in range(len(words)) if rng.random() < _SWAPPED]
    shuffled = chosen[:]
    rng.shuffle(shuffled)
    for a, b in zip(chosen, shuffled, strict=True):
        if a < b:
            words[a], words[b] = words[b], words[a]
    return " ".join(words)
