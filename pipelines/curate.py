"""The stages of curation, in order: from files to a sealed token store.

    files -> prepare -> duplicates -> quality model -> tokens -> choice among copies -> ranges -> shards -> manifest, marker

Every stage is a list of items that an executor runs, each into a folder of its own named by what determines it
(``work.py``); nothing but their small results passes through here. The store depends on the inputs and the configuration
only: neither workers, nor the size of the splits, nor a kill in between can be seen in its bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ground.errors import UserError
from ground.files import canonical_json, digest_bytes, write_atomic
from pipelines import duplicates, tokens
from pipelines.config import CurationConfig, SourceConfig
from pipelines.dedup import Outcome
from pipelines.excluded import write_excluded
from pipelines.funnel import require_documents, source_funnel
from pipelines.inputs import Input, read_inputs
from pipelines.lineage import write_lineage
from pipelines.models import contamination_index, quality_model, tokenizer_digest, tokenizer_folder
from pipelines.parts import Part, prepare_parts
from pipelines.ranking import Ranked, link_shards, rank_streams
from pipelines.store import MANIFEST, MARKER, TOKENIZER, Manifest, StoredSource, TokenStore, seal, token_dtype
from pipelines.tokenizer import load_tokenizer
from pipelines.work import Made, Work, clear, content_key, writing

_WORKING = "CURATING"  # present while a store is being made: what is in the folder may be thrown away
_VERSION = 2  # raise when the same inputs would give another store
_ITEMS = 512
_SMALLEST_ITEM, _LARGEST_ITEM = 16 << 20, 128 << 20


@dataclass(frozen=True)
class Curation:
    """What is to be curated, and with what.

    Args:
        store: folder of the store.
        sources: by name, in order of priority among copies.
        config: the recipe's section.
        tokenizer: folder or name, unless ``config.train_tokenizer`` asks for a new one.
        work: runs the stages.
        split_bytes: text of one item; does not change the store. Absent: a 512th of the corpus, but 16 MiB at least, some seconds
            of work, so that cores end together, and 128 MiB at most, so that a part fits any worker's memory.
    """

    store: Path
    sources: Mapping[str, SourceConfig]
    config: CurationConfig
    tokenizer: str | None
    work: Work
    split_bytes: int | None = None

    def run(self) -> TokenStore:
        """Make the store, or return it when it is there already.

        Raises:
            UserError: a source has no file or no document, or the folder holds something else.
        """
        with writing("curation.store", self.store):
            return self._run()

    def _run(self) -> TokenStore:
        inputs = read_inputs(self.work, self.sources)
        index = contamination_index(self.work, self.config.decontamination)
        lineage = self.lineage(inputs, index)
        if (existing := _existing(self.store, lineage)) is not None:
            self.work.progress("curate", f"the store at {self.store} is up to date")
            return existing
        clear(self.work.folder)
        self.store.mkdir(parents=True, exist_ok=True)
        write_atomic(self.store / _WORKING, "")

        parts = prepare_parts(self.work, self.config, self.sources, inputs, index, self.item_bytes(inputs))
        stored = [part for part in parts if self.sources[part.source].role != "reference"]
        tokenizer = tokenizer_folder(self.work, self.config, self.sources, self.tokenizer, parts)
        # Neither needs the other: copies are compared in this process while workers load models and encode.
        with ThreadPoolExecutor(1) as beside:
            finding = beside.submit(duplicates.find, self.work, self.config.dedup, list(self.sources), stored)
            if not duplicates.runs_here(stored):
                wait([finding])
            quality = quality_model(self.work, self.config, self.sources, parts, tokenizer)
            runs = tokenise_parts(self.work, self.config, self.sources, stored, tokenizer, quality)
            found = finding.result()
        outcome = self._settle(found, stored, runs)
        loaded = load_tokenizer(str(tokenizer))
        ranked = rank_streams(
            self.work,
            [part.source for part in stored],
            [run.folder for run in runs],
            [run.result for run in runs],
            outcome.reasons if outcome is not None else None,
            shard_bytes=self.config.shard_bytes,
            dtype=token_dtype(loaded.vocabulary),
        )
        funnel = self._funnel(parts, runs, ranked, outcome)
        require_documents(funnel)
        masks = {} if outcome is None else dict(zip((part.key for part in stored), outcome.reasons, strict=True))
        write_excluded(self.work, self.config.excluded_share, parts, masks)
        link_shards(self.store, ranked)
        shutil.copytree(tokenizer, self.store / TOKENIZER, ignore=shutil.ignore_patterns("result.json"))
        manifest = Manifest(
            dtype=token_dtype(loaded.vocabulary),
            vocabulary=loaded.vocabulary,
            end_of_document=loaded.eos_id,
            shard_tokens=ranked.shard_tokens,
            tokenizer_digest=loaded.digest,
            sources={
                name: StoredSource(
                    role=source.role, train=ranked.stream(name, "train"), heldout=ranked.stream(name, "heldout")
                )
                for name, source in self.sources.items()
                if source.role != "reference"
            },
            lineage=lineage | ({"quality_model": quality.result["digest"]} if quality is not None else {}),
            funnel=funnel,
        )
        write_lineage(self.store, manifest)
        (self.store / _WORKING).unlink()
        seal(self.store, manifest)
        return TokenStore.open(self.store)

    def item_bytes(self, inputs: Mapping[str, Sequence[Input]]) -> int:
        """Text of one item."""
        if self.split_bytes is not None:
            return self.split_bytes
        total = sum(entry.size for entries in inputs.values() for entry in entries)
        return min(max(total // _ITEMS, _SMALLEST_ITEM), _LARGEST_ITEM)

    def lineage(self, inputs: Mapping[str, Sequence[Input]], index: Path | None) -> dict[str, Any]:
        """What determines the store. Paths are left out: the same files elsewhere give the same store."""
        described = {n: s.model_dump(mode="json", exclude={"paths", "tokens"}) for n, s in self.sources.items()}
        apart: Any = {
            "store": True,
            "work": True,
            "tokenizer": True,
            "excluded_share": True,
            "decontamination": {"paths", "tasks"},
        }
        settings = self.config.model_dump(mode="json", exclude=apart)
        return {
            "version": _VERSION,
            "sources": {n: described[n] | {"files": sorted(entry.digest for entry in inputs[n])} for n in self.sources},
            "order": list(self.sources),
            "config_digest": digest_bytes(canonical_json(settings)),
            "config": settings,
            "tokenizer": tokenizer_digest(self.tokenizer) if self.tokenizer else None,
            "evaluation_sets": index.name if index is not None else None,
        }

    def _settle(
        self, found: duplicates.Duplicates | None, parts: Sequence[Part], runs: Sequence[Made]
    ) -> Outcome | None:
        if found is None:
            return None
        scored = [self.sources[part.source].role == "domain" for part in parts]
        scores = [run.folder / tokens.SCORES if has else None for run, has in zip(runs, scored, strict=True)]
        key = content_key(runs=[run.folder.name for run in runs])
        with self.work.timed("choice among copies") as say:
            outcome = duplicates.settle(found, scores, key)
            say(f"{sum(sum(counts.values()) for counts in outcome.counts.values()):,} documents left out")
        return outcome

    def _funnel(
        self, parts: Sequence[Part], runs: Sequence[Made], ranked: Ranked, outcome: Outcome | None
    ) -> dict[str, Any]:
        samples = outcome.samples if outcome is not None else []
        stored = [part for part in parts if self.sources[part.source].role != "reference"]
        return {
            name: source_funnel(
                name,
                source.role,
                [part.result for part in parts if part.source == name],
                ranked.of_source(name) if source.role != "reference" else None,
                samples,
                [run.result for part, run in zip(stored, runs, strict=True) if part.source == name],
            )
            for name, source in self.sources.items()
        }


def tokenise_parts(
    work: Work,
    config: CurationConfig,
    sources: Mapping[str, SourceConfig],
    parts: Sequence[Part],
    tokenizer: Path,
    quality: Made | None,
) -> list[Made]:
    """Tokens and scores of every part."""
    items = []
    for part in parts:
        scored = sources[part.source].role == "domain" and quality is not None
        how = tokens.Tokenisation(
            tokenizer=str(tokenizer),
            fast_tokenizer=config.fast_tokenizer,
            quality=str(quality.folder / "model") if quality is not None and scored else None,
        )
        key = content_key(
            version=tokens.VERSION,
            part=part.key,
            tokenizer=tokenizer.name,
            quality=quality.folder.name if quality is not None and scored else None,
        )
        items.append((key, {"tokenisation": how.model_dump(mode="json"), "part": str(part.folder)}))
    sizes = [sum(counts["bytes"] for counts in part.result["kept"].values()) for part in parts]
    return work.run("tokens", tokens.tokenise, items, sizes=sizes)


def _existing(store: Path, lineage: dict[str, Any]) -> TokenStore | None:
    """The complete store of this lineage, or None when there is none; clears what an interrupted run left."""
    if (store / MARKER).is_file():
        opened = TokenStore.open(store)
        if all(opened.manifest.lineage.get(key) == value for key, value in lineage.items()):
            return opened
        changed = ", ".join(key for key, value in lineage.items() if opened.manifest.lineage.get(key) != value)
        raise UserError(
            "curation.store",
            f"{store} holds a store made from something else (differs in: {changed})",
            "give another curation.store, or remove the folder",
        )
    if (store / _WORKING).is_file() or (store / MANIFEST).is_file():
        shutil.rmtree(store)
    elif store.is_dir() and any(store.iterdir()):
        raise UserError("curation.store", f"{store} is not empty and holds no store", "give another folder")
    return None
