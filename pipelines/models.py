"""What curation learns before it encodes: the evaluation sets' n-grams, a tokenizer, the quality model."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ground.errors import UserError
from ground.files import canonical_json, digest_bytes, digest_file
from pipelines.chat import carry_chat_template, load_chat_tokenizer
from pipelines.config import CurationConfig, SourceConfig
from pipelines.decontamination import DecontaminationConfig, build_index
from pipelines.encoder import Encoder
from pipelines.executor import Item, Result
from pipelines.parts import Part
from pipelines.prepare import is_sampled
from pipelines.quality import QualityConfig, model_digest, train_scorer
from pipelines.quality.language_model import language_model_files
from pipelines.scored import check_scored_sources
from pipelines.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from pipelines.work import Made, Work, content_key

_VERSION = 1  # raise when the same documents would give another model
_BYTES_A_TOKEN = 3  # at least, for any tokenizer on any prose: bounds how much text is read for so many tokens


def contamination_index(work: Work, config: DecontaminationConfig | None) -> Path | None:
    """The n-grams of the evaluation sets, or None without decontamination.

    Raises:
        UserError: a set is missing or has no known field.
    """
    if config is None:
        return None
    # The sets are small, so they are read anew each time: their content, not their paths, names the index.
    target = work.folder / "contamination" / f".{secrets.token_hex(4)}.tmp"
    folder = target.with_name(build_index(config, target).digest)
    if folder.is_dir():
        shutil.rmtree(target)
    else:
        target.rename(folder)
    return folder


def tokenizer_folder(
    work: Work,
    config: CurationConfig,
    sources: Mapping[str, SourceConfig],
    tokenizer: str | None,
    parts: Sequence[Part],
) -> Path:
    """A folder with the tokenizer: a copy of the given one, or one trained on the sources' clean documents."""
    training = config.train_tokenizer
    if training is None:
        assert tokenizer is not None  # the recipe's tokenizer or its base model; checked by the caller
        key = content_key(version=_VERSION, copy=tokenizer_digest(tokenizer))
        (made,) = work.run("tokenizer", copy_tokenizer, [(key, {"tokenizer": tokenizer})], quiet=True, here=True)
        return made.folder
    mine = [part for part in parts if sources[part.source].role != "reference"]
    size = sum(counts["bytes"] for part in mine for counts in part.result["kept"].values())
    share = min(1.0, training.sample_bytes / max(1, size))
    item = {
        "parts": [str(part.folder) for part in mine],
        "vocabulary": training.vocabulary,
        "share": share,
    }
    key = content_key(
        version=_VERSION, parts=sorted(part.key for part in mine), vocabulary=training.vocabulary, share=share
    )
    work.progress("tokenizer", f"a BPE of {training.vocabulary:,} tokens")
    (made,) = work.run("tokenizer", fit_tokenizer, [(key, item)], quiet=True)
    return made.folder


def tokenizer_digest(tokenizer: str) -> str:
    """Digest of a tokenizer and of its chat template.

    Raises:
        UserError: there is no such tokenizer, or it cannot be read.
    """
    chat = load_chat_tokenizer(tokenizer)
    template = {"template": chat.template, "special_tokens": chat.special_tokens}
    return digest_bytes(canonical_json({"tokenizer": chat.loaded.digest} | template))


def copy_tokenizer(item: Item, folder: Path) -> Result:
    """Save ``item["tokenizer"]`` into ``folder``."""
    loaded = load_tokenizer(item["tokenizer"], "curation.tokenizer")
    save_tokenizer(loaded.tokenizer, folder, eos_token=loaded.eos_token)
    carry_chat_template(item["tokenizer"], folder)
    return {}


def fit_tokenizer(item: Item, folder: Path) -> Result:
    """Train a tokenizer on a sample of the parts' documents, chosen by their hashes; the merges depend on no order."""
    texts = (
        text
        for part in item["parts"]
        for text, document_hash in _texts(Path(part))
        if is_sampled(document_hash, item["share"])
    )
    save_tokenizer(train_tokenizer(texts, item["vocabulary"]), folder)
    return {}


def quality_model(
    work: Work, config: CurationConfig, sources: Mapping[str, SourceConfig], parts: Sequence[Part], tokenizer: Path
) -> Made | None:
    """The model that ranks domain documents; None when there is neither a reference nor a given model.

    Raises:
        UserError: the method needs sources that are not there, or a given model cannot serve.
    """
    quality = config.quality
    if quality.scores_a_column:
        check_scored_sources(quality, sources, parts)
    roles = {name: source.role for name, source in sources.items()}
    reference = [part for part in parts if roles[part.source] == "reference"]
    general = [part for part in parts if roles[part.source] == "general"] if quality.needs_general else []
    if "domain" not in roles.values() or (quality.needs_reference and not reference):
        return None
    if quality.needs_general and not general:
        problem = f"{quality.method} needs general sources to train on, and there is none"
        raise UserError("curation.quality.method", problem, "add a source of role general, or choose robust")
    given = {
        name: digest_file(Path(path).expanduser()) for name, path in _given(quality).items() if Path(path).is_file()
    }
    if quality.ifd is not None:
        given |= {file.name: digest_file(file) for file in language_model_files(quality.ifd.model)}
    key = content_key(
        version=_VERSION,
        config=quality.model_dump(mode="json", exclude={"model": True, "general_model": True, "ifd": {"model"}}),
        given=given,
        tokenizer=load_tokenizer(str(tokenizer)).digest,
        reference=sorted(part.key for part in reference) if quality.needs_reference else [],
        general=sorted(part.key for part in general),
    )
    item = {
        "config": quality.model_dump(mode="json"),
        "reference": [str(part.folder) for part in reference] if quality.needs_reference else [],
        "general": [str(part.folder) for part in general],
        "tokenizer": str(tokenizer),
        "fast_tokenizer": config.fast_tokenizer,
    }
    (made,) = work.run("quality model", fit_quality_model, [(key, item)])
    return made


def fit_quality_model(item: Item, folder: Path) -> Result:
    """Train the quality model of ``item["config"]`` in ``folder / "model"``."""
    config = QualityConfig.model_validate(item["config"])
    loaded = load_tokenizer(item["tokenizer"])
    encoder = Encoder(loaded, fast=item["fast_tokenizer"])
    limit = config.training_tokens * _BYTES_A_TOKEN
    train_scorer(
        config,
        _encoded(_by_hash(item["reference"], limit), encoder),
        _encoded(_by_hash(item["general"], limit), encoder),
        folder / "model",
        end_id=loaded.eos_id,
        vocabulary=loaded.vocabulary,
    )
    return {"digest": model_digest(folder / "model")}


def _given(quality: QualityConfig) -> dict[str, str]:
    return {
        name: path
        for name, path in (("model", quality.model), ("general_model", quality.general_model))
        if path is not None
    }


def _texts(part: Path) -> Iterator[tuple[str, str]]:
    """Text and hash of every document of a part, a batch in memory at a time."""
    with pa.memory_map(str(part / "documents.arrow")) as source:
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            batch = reader.get_batch(index)
            yield from zip(batch.column("text").to_pylist(), batch.column("hash").to_pylist(), strict=True)


def _by_hash(parts: Sequence[str], limit: int) -> list[str]:
    """The texts of some parts in the order of their hashes, copies once, up to about ``limit`` bytes: a random part of
    them that is the same however they were cut."""
    size = sum(Path(part, "documents.arrow").stat().st_size for part in parts)  # compressed: a lower bound
    share = min(1.0, 2 * limit / size) if size else 1.0
    chosen = {
        document_hash: text
        for part in parts
        for text, document_hash in _texts(Path(part))
        if int(document_hash[:12], 16) < share * (1 << 48)
    }
    texts, left = [], limit
    for document_hash in sorted(chosen):
        if left <= 0:
            break
        texts.append(chosen[document_hash])
        left -= len(chosen[document_hash])
    return texts


def _encoded(texts: Sequence[str], encoder: Encoder) -> Iterable[tuple[NDArray[np.uint32], str]]:
    for first in range(0, len(texts), 500):
        batch = texts[first : first + 500]
        yield from zip(encoder(batch), batch, strict=True)
