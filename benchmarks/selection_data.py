"""The medical and general corpora that lie beside the repository (``../shared/data``), and which of them are good."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from benchmarks.harness import ROOT
from ground.errors import UserError
from ground.files import digest_bytes
from pipelines.encoder import Encoder
from pipelines.tokenizer import END_OF_TEXT, LoadedTokenizer, load_tokenizer, save_tokenizer

DATA = ROOT.parent / "shared" / "data"

REFERENCE = ("openstax_anatomy_microbiology_biology", "wikipedia_medical")
HIGH = (
    "pmc_oa_rct_fulltext",
    "medquad_nih_qa",
    "openstax_nursing_pharm_nutrition_pophealth",
    "ncbi_disease_pubmed_abstracts",
    "dailymed_indications",
)
NOISY = (
    "cdc_pcd_2024_rawhtml",
    "cdc_pcd_nonenglish_es_fr_zh",
    "vaers_1990_1999_narratives",
    "meqsum_consumer_questions",
)
OTHER = (
    "cdc_mmwr_supplements_webtext",
    "disease_ontology_definitions",
    "gutenberg747_anomalies_curiosities_medicine",
    "icd10cm_tabular",
)
"""Neither: terminology, a dated book, and good prose under site menus, which a line filter should clean."""

RANKED = HIGH + NOISY + OTHER


@dataclass(frozen=True)
class Corpus:
    """The documents of one file, in its order."""

    ids: Sequence[str]
    texts: Sequence[str]
    tokens: Sequence[NDArray[np.uint32]]
    """Token ids, each with its end-of-document token."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[documents] tokens without end."""
        return np.array([len(ids) - 1 for ids in self.tokens], dtype=np.int64)

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the texts."""
        return sum(len(text.encode()) for text in self.texts)


def require_data() -> None:
    """Check that the corpora are there.

    Raises:
        UserError: they are not.
    """
    if not (DATA / "medical").is_dir():
        mend = "put shared/data with its medical and general corpora next to the repository; nothing else needs them"
        raise UserError(str(DATA), "the corpora of this benchmark are not there", mend)


def gpt2_tokenizer(folder: Path) -> LoadedTokenizer:
    """GPT-2's byte-level BPE, built from its vocabulary and merges and saved to ``folder``."""
    bpe = models.BPE.from_file(str(DATA / "models/gpt2-vocab.json"), str(DATA / "models/gpt2-merges.txt"))
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    save_tokenizer(tokenizer, folder)
    return load_tokenizer(str(folder))


def read_corpus(kind: str, name: str, encode: Encoder) -> Corpus:
    """One corpus, encoded."""
    ids, texts = zip(*_lines(DATA / kind / f"{name}.jsonl.zst"), strict=True)
    return Corpus(ids, texts, encode(texts))


def read_general(encode: Encoder, tokens: int) -> Iterator[tuple[NDArray[np.uint32], str]]:
    """General documents in the order of their hashes, about as many as hold so many tokens: a random mixture of all files."""
    files = sorted((DATA / "general").glob("*.jsonl.zst"))
    texts = sorted((digest_bytes(text), text) for path in files for _, text in _lines(path))
    for start in range(0, len(texts), 1024):
        chosen = [text for _, text in texts[start : start + 1024]]
        for ids, text in zip(encode(chosen), chosen, strict=True):
            yield ids, text
            tokens -= len(ids)
        if tokens < 0:
            return


def pairs(corpora: Mapping[str, Corpus]) -> list[tuple[NDArray[np.uint32], str]]:
    """(tokens, text) of all documents, in the order of their hashes."""
    documents = [pair for corpus in corpora.values() for pair in zip(corpus.tokens, corpus.texts, strict=True)]
    return sorted(documents, key=lambda pair: digest_bytes(pair[1]))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with open(path, "rb") as file:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8"):
            record = json.loads(line)
            yield record["id"], record["text"]
