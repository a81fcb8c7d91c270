"""Near duplicates of real text against ``datasketch`` with exact Jaccard similarity."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import zstandard

from pipelines.dedup import DedupConfig, FuzzyConfig, find_duplicates
from pipelines.dedup.exact import LABELS
from pipelines.dedup.layout import Layout, NodeArray
from pipelines.dedup.lsh import band_keys, equal_rows, pairs, pieces, shared_groups
from pipelines.words import TextBatch
from tests.pipelines.dedup.corpus import Document, LocalRun, sign

DATA = Path(__file__).parents[3].parent / "shared" / "data"
CONFIG = DedupConfig()
FUZZY = FuzzyConfig()
SAMPLES = {
    "medical/medquad_nih_qa": 1200,
    "medical/dailymed_indications": 2973,
    "medical/vaers_1990_1999_narratives": 3000,
    "general/source_code": 400,
    "general/wikipedia_general": 18112,
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the shared corpora in {DATA.name}, beside the repository"),
]


def documents(name: str) -> list[Document]:
    """The first documents of a corpus; of Wikipedia the three versions of the same articles and 500 others."""
    found = []
    with open(DATA / f"{name}.jsonl.zst", "rb") as file:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8"):
            value = json.loads(line)
            if "wikipedia" in name and not value["source"].endswith("_head") and len(found) > 500:
                continue
            found.append(Document(name, str(value["id"]), value["text"].encode("utf-8", "replace").decode()))
            if len(found) == SAMPLES[name]:
                break
    return found


def shingle_sets(texts: list[str]) -> list[frozenset[bytes]]:
    """Shingles as words, not hashes."""
    sets = []
    for text in texts:
        batch = TextBatch([text.lower()])
        found = batch.plain_words
        tokens = [batch.data[a:b].tobytes() for a, b in zip(found.starts.tolist(), found.ends.tolist(), strict=True)]
        grams = range(max(len(tokens) - FUZZY.ngram + 1, min(1, len(tokens))))
        sets.append(frozenset(b" ".join(tokens[i : i + FUZZY.ngram]) for i in grams))
    return sets


def jaccard(first: frozenset[bytes], second: frozenset[bytes]) -> float:
    return len(first & second) / len(first | second) if first and second else 0.0


def oracle_pairs(sets: list[frozenset[bytes]]) -> list[tuple[int, int]]:
    """Pairs with an exact similarity from the threshold on, among the candidates of ``datasketch``."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=FUZZY.threshold, num_perm=128, weights=(0.02, 0.98))
    found = []
    for node, grams in enumerate(sets):
        if not grams:
            continue
        sketch = MinHash(num_perm=128)
        sketch.update_batch(list(grams))
        found += [(other, node) for other in index.query(sketch) if jaccard(sets[other], grams) >= FUZZY.threshold]
        index.insert(node, sketch, check_duplication=False)
    return found


def joined_pairs(layout: Layout) -> set[tuple[int, int]]:
    """Pairs that are joined themselves, not through others."""
    labels = NodeArray(layout, LABELS).take(np.arange(layout.rows))
    nodes = np.flatnonzero(labels == np.arange(layout.rows))
    signatures = layout.of_nodes(np.arange(layout.rows), ["signature", "signed"])
    nodes = nodes[signatures["signed"][nodes] > 0]
    keys = band_keys(signatures["signature"][nodes], FUZZY.bands, FUZZY.rows)
    joined: set[tuple[int, int]] = set()
    for piece in pieces(shared_groups(keys.ravel(), np.repeat(nodes, FUZZY.bands), layout)):
        first, second = (piece.nodes[side] for side in pairs(piece))
        similar = equal_rows(signatures["signature"], first, second) >= FUZZY.accepted_rows
        joined |= set(zip(first[similar].tolist(), second[similar].tolist(), strict=True))
    return joined


@pytest.mark.parametrize("name", SAMPLES)
def test_pairs_above_the_threshold_are_joined_and_few_far_below(tmp_path: Path, name: str) -> None:
    pytest.importorskip("datasketch")
    corpus = documents(name)
    part = sign(tmp_path / "part", corpus, CONFIG)
    found = find_duplicates([part], [name], CONFIG, tmp_path / "work", LocalRun())
    layout = Layout.read(tmp_path / "work")
    first_copies = NodeArray(layout, LABELS).take(np.arange(layout.rows))
    components = NodeArray(layout, found.labels).take(first_copies)
    sets = shingle_sets([document.text for document in corpus])
    wanted = np.array(oracle_pairs(sets))
    assert len(wanted) > 10
    agreement = (components[wanted[:, 0]] == components[wanted[:, 1]]).mean()
    assert agreement >= 0.99, f"{agreement:.2%} of {len(wanted)} pairs"
    joined = [jaccard(sets[a], sets[b]) for a, b in joined_pairs(layout)]
    far_below = np.mean([similarity < FUZZY.threshold - 0.1 for similarity in joined])
    assert far_below <= 0.01, f"{far_below:.2%} of {len(joined)} joined pairs"
    print(f"{name}: {agreement:.2%} of {len(wanted)} pairs, {far_below:.3%} of {len(joined)} far below")
