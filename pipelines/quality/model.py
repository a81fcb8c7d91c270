"""A quality model on disk: train one into a folder, load its scorer. The folder holds everything a scorer needs and no pickle.

model.json                         what the folder is; written last, so that a folder without it is unfinished
reference/, general/               an n-gram model each: tables, words; or model.bin
classifier.npy                     weights
language_model/                    config, weights and tokenizer of a small language model
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from ground.config import Section
from ground.errors import UserError
from ground.files import canonical_json, digest_bytes, digest_file, write_atomic
from pipelines.quality.arpa import Grams, read_arpa
from pipelines.quality.classifier import ClassifierScorer, train_classifier
from pipelines.quality.config import IfdConfig, QualityConfig
from pipelines.quality.conversations import ColumnScorer, FieldScorer
from pipelines.quality.costs import CostModel, KenlmModel, TableModel, Tokens, split_words, without_end
from pipelines.quality.kneser_ney import estimate
from pipelines.quality.language_model import load_ifd_scorer, take_language_model
from pipelines.quality.scorers import DifferenceScorer, PerplexityScorer, RobustScorer, Scorer
from pipelines.quality.table import NgramTable, build_table, load_array, save_array

Document = tuple[Tokens, str]
"""Token ids (with or without end-of-document token) and text."""

Side = Literal["reference", "general"]

_MODEL, _BINARY, _WORDS, _CLASSIFIER = "model.json", "model.bin", "words.txt", "classifier.npy"
_LANGUAGE_MODEL = "language_model"
_VERSION = 1


class QualityModel(Section):
    """The content of ``model.json``."""

    version: int
    config: QualityConfig
    """The settings, without the paths of given models."""
    end_id: int
    """End-of-document token."""
    vocabulary: int
    """Number of token ids of the tokenizer."""
    digests: dict[str, str]
    """BLAKE3 of every file of the folder."""


def train_scorer(
    config: QualityConfig,
    reference: Iterable[Document],
    general: Iterable[Document],
    folder: Path,
    *,
    end_id: int,
    vocabulary: int,
) -> QualityModel:
    """Train (or take over) the models that the method asks for. The same documents in the same order give the same files.

    Args:
        reference: documents of the reference sources, by hash, so that a limit on training tokens takes a random part.
        general: documents of the general sources, by hash over all of them; read only if ``config.needs_general``, and no
            more tokens than the reference has (Moore & Lewis 2010 train both models on as much text).
        folder: where to put it; an earlier model there is replaced.
        end_id: end-of-document token.
        vocabulary: number of token ids.

    Raises:
        UserError: there is no text to train on, or a given model is missing, unreadable or over other units.
    """
    if folder.exists():
        shutil.rmtree(folder)
    taken = _Limited(reference, config.training_tokens, end_id)
    if config.method == "classifier":
        positive = list(taken.tokens())
        limit = max(1, taken.count)
        negative = list(_Limited(general, limit, end_id).tokens())
        _require(bool(positive), "reference")
        _require(bool(negative), "general")
        save_array(folder / _CLASSIFIER, train_classifier(positive, negative, config.classifier))
    elif config.ifd is not None:
        take_language_model(config.ifd.model, folder / _LANGUAGE_MODEL)
    elif config.method != "field":  # a field is only read
        sides: list[tuple[Side, str | None, _Limited]] = [("reference", config.model, taken)]
        if config.method == "difference":
            sides.append(("general", config.general_model, _Limited(general, config.training_tokens, end_id)))
        for side, given, documents in sides:
            if side == "general" and taken.count:
                documents.limit = taken.count
            _prepare(folder / side, side, given, config, documents, vocabulary)
    described = QualityModel(
        version=_VERSION,
        config=config.model_copy(update={"model": None, "general_model": None, "ifd": without_path(config.ifd)}),
        end_id=end_id,
        vocabulary=vocabulary,
        digests={str(p.relative_to(folder)): digest_file(p) for p in sorted(folder.rglob("*")) if p.is_file()},
    )
    write_atomic(folder / _MODEL, canonical_json(described.model_dump(mode="json")))
    return described


def without_path(ifd: IfdConfig | None) -> IfdConfig | None:
    """The settings without where the language model lies: its files have digests of their own."""
    return ifd.model_copy(update={"model": _LANGUAGE_MODEL}) if ifd is not None else None


def load_column_scorer(folder: Path) -> ColumnScorer | None:
    """The scorer of a model folder whose method scores a column beside the text; None if it scores tokens and text.

    Raises:
        UserError: the folder holds no finished model.
    """
    config = read_model(folder).config
    if config.ifd is not None:
        return load_ifd_scorer(folder / _LANGUAGE_MODEL, config.ifd.max_tokens)
    if config.field is not None:
        return FieldScorer(config.field.name, higher_is_better=config.field.higher_is_better)
    return None


def load_scorer(folder: Path) -> Scorer:
    """The scorer of a model folder whose method scores tokens and text. Tables are mapped into memory, so that processes on one
    machine share them.

    Raises:
        UserError: the folder holds no finished model.
    """
    model = read_model(folder)
    config = model.config
    if config.method == "classifier":
        return ClassifierScorer(load_array(folder / _CLASSIFIER), model.end_id)
    reference = _cost_model(folder / "reference", model)
    if config.method == "difference":
        return DifferenceScorer(reference, _cost_model(folder / "general", model))
    if config.method == "perplexity":
        return PerplexityScorer(reference)
    return RobustScorer(reference, config.ceiling, config.window, config.doubt, reference.unigram_cost(config.ceiling))


def read_model(folder: Path) -> QualityModel:
    """What a folder holds.

    Raises:
        UserError: it holds no finished model.
    """
    try:
        return QualityModel.model_validate(json.loads((folder / _MODEL).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        mend = "train the quality model anew"
        raise UserError("quality model", f"{folder} holds no finished model ({reason})", mend) from None


def model_digest(folder: Path) -> str:
    """Digest of everything that decides a score, for the lineage of a store.

    Raises:
        UserError: the folder holds no finished model.
    """
    return digest_bytes(canonical_json(read_model(folder).model_dump(mode="json")))


class _Limited:
    """Documents until there are enough tokens; counts them."""

    def __init__(self, documents: Iterable[Document], limit: int, end_id: int) -> None:
        self._documents, self.limit, self._end_id, self.count = documents, limit, end_id, 0

    def tokens(self) -> Iterator[Tokens]:
        for ids, _ in self._within():
            yield ids

    def words(self) -> Iterator[list[str]]:
        for _, text in self._within():
            yield split_words(text)

    def _within(self) -> Iterator[Document]:
        for tokens, text in self._documents:
            if self.count >= self.limit:
                return
            ids = without_end(tokens, self._end_id)
            self.count += len(ids)
            if len(ids):
                yield ids, text


def _prepare(
    folder: Path,
    side: Side,
    given: str | None,
    config: QualityConfig,
    documents: _Limited,
    vocabulary: int,
) -> None:
    """Put one n-gram model into its folder: train it, or take over the given one."""
    folder.mkdir(parents=True)
    field = "curation.quality.model" if side == "reference" else "curation.quality.general_model"
    tokens = config.units == "tokens"
    if given is not None and not given.endswith(".arpa"):
        _take_binary(Path(given).expanduser(), folder / _BINARY, field, config, vocabulary)
        return
    units = [str(n) for n in range(vocabulary)] if tokens else None
    if given is not None:
        names, grams = read_arpa(Path(given).expanduser(), units)
    else:
        names, grams = _estimated(documents, side, config.order, units)
    table = build_table(grams, len(names), config.unknown_log10)
    if not table.knows(np.arange(3, len(names) + 3)).any():
        raise _other_units(field, str(given), config)
    table.save(folder)
    if not tokens:
        write_atomic(folder / _WORDS, "\n".join(names))


def _estimated(documents: _Limited, side: Side, order: int, units: list[str] | None) -> tuple[list[str], list[Grams]]:
    """The units of a model (None: the words that occur) and its n-grams."""
    numbers: dict[str, int] = {}
    sequences = (
        documents.tokens()
        if units is not None
        else (np.array([numbers.setdefault(w, len(numbers)) for w in words]) for words in documents.words())
    )
    first = next(sequences, None)
    _require(first is not None, side)
    grams = estimate(itertools.chain(() if first is None else (first,), sequences), order)
    return (list(numbers) if units is None else units), grams


def _require(any_text: bool, side: Side) -> None:
    if not any_text:
        problem = f"the {side} sources hold no text to train the quality model on"
        raise UserError("sources", problem, f"check their paths, or add a source of role {side}")


def _take_binary(path: Path, target: Path, field: str, config: QualityConfig, vocabulary: int) -> None:
    if not path.is_file():
        raise UserError(field, f"no file {str(path)!r}", "give an .arpa or .bin file that KenLM wrote, or leave it out")
    model = KenlmModel(path, config.unknown_log10, 0, vocabulary if config.units == "tokens" else None)
    if config.method == "robust":
        model.unigram_cost(config.ceiling)  # says at once if the binary cannot serve
    if config.units == "tokens" and not model.knows_any_token():
        raise _other_units(field, str(path), config)
    shutil.copyfile(path, target)


def _other_units(field: str, path: str, config: QualityConfig) -> UserError:
    units = "token of the tokenizer" if config.units == "tokens" else "word"
    mend = "train it on token ids of the same tokenizer, written as decimal numbers, or set units: words"
    return UserError(field, f"{path} knows no {units}", mend)


def _cost_model(folder: Path, model: QualityModel) -> CostModel:
    tokens = model.config.units == "tokens"
    unknown = model.config.unknown_log10
    if (folder / _BINARY).is_file():
        return KenlmModel(folder / _BINARY, unknown, model.end_id, model.vocabulary if tokens else None)
    words = None if tokens else (folder / _WORDS).read_text(encoding="utf-8").split("\n")
    return TableModel(NgramTable.load(folder, unknown), model.end_id, words)
