"""Curation on real Ray Data: the same bytes for any number of workers and block size, ranked, counted, restartable."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.config import CurationConfig
from pipelines.process import is_held_out
from pipelines.store import MARKER, TokenStore
from pipelines.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow

GOOD = ["fever", "cough", "pain", "swelling", "infection", "treatment", "dose", "patient", "chronic", "tissue", "lung"]
ODD = [
    "coupon",
    "basket",
    "login",
    "cookie",
    "banner",
    "scroll",
    "click",
    "menu",
    "widget",
    "footer",
    "header",
    "promo",
]


def write_corpora(folder: Path) -> dict[str, dict[str, Any]]:
    """Domain documents of falling purity in two files, a general and a reference source, with some that must be dropped."""
    rng = random.Random(3)
    folder.mkdir(parents=True)

    def sentence(words: list[str]) -> str:
        return "The " + " ".join(rng.choices(words, k=12)) + "."

    domain = []
    for i in range(600):
        words = GOOD if i % 3 else GOOD + ODD * (1 + i % 5)
        domain.append({"id": f"d{i}", "text": " ".join(sentence(words) for _ in range(3 + i % 9))})
    domain += [
        {"id": "short", "text": "too short"},
        {"id": "none", "text": None},
        {"id": "digits", "text": "0123456789 " * 20},
    ]
    with gzip.open(folder / "med-a.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(d) + "\n" for d in domain[:250])
    (folder / "med-b.jsonl").write_text("".join(json.dumps(d) + "\n" for d in domain[250:]) + "{broken\n")
    general = [{"id": f"g{i}", "text": " ".join(sentence(ODD) for _ in range(5))} for i in range(200)]
    (folder / "web.jsonl").write_text("".join(json.dumps(d) + "\n" for d in general))
    reference = [{"id": f"r{i}", "text": " ".join(sentence(GOOD) for _ in range(6))} for i in range(80)]
    (folder / "ref.jsonl").write_text("".join(json.dumps(d) + "\n" for d in reference))
    return {
        "med": {"role": "domain", "paths": [str(folder / "med-a.jsonl.gz"), str(folder / "med-b.jsonl")]},
        "web": {"role": "general", "paths": [str(folder / "web.jsonl")]},
        "ref": {"role": "reference", "paths": [str(folder / "ref.jsonl")]},
    }


CONFIG = CurationConfig.model_validate(
    {"train_tokenizer": {"vocabulary": 400}, "heldout_fraction": 0.1, "shard_bytes": 8192}
)


def curate_in_new_process(store: Path, sources: dict[str, Any], *, cpus: int, rows: int) -> None:
    """Curate under a Ray of its own, so that the number of CPUs can differ between runs."""
    script = """
        import json, sys
        from pathlib import Path
        import ray
        from pipelines.config import CurationConfig, SourceConfig
        from pipelines.curate import curate
        from cluster.session import session
        store, sources, config, cpus, rows = sys.argv[1:]
        with session(cpus=int(cpus)):
            parsed = {name: SourceConfig.model_validate(value) for name, value in json.loads(sources).items()}
            curate(Path(store), parsed, CurationConfig.model_validate_json(config), None, print, documents_per_block=int(rows))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(store), json.dumps(sources), CONFIG.model_dump_json()]
    done = subprocess.run([*command, str(cpus), str(rows)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Two stores of the same corpora: one CPU with large blocks, two CPUs with tiny ones."""
    folder = tmp_path_factory.mktemp("curate")
    sources = write_corpora(folder / "corpora")
    curate_in_new_process(folder / "one", sources, cpus=1, rows=2048)
    curate_in_new_process(folder / "two", sources, cpus=2, rows=64)
    return folder / "one", folder / "two", sources


def test_the_store_is_the_same_bytes_for_any_workers_and_block_size(made: tuple[Path, Path, Any]) -> None:
    one, two, _ = made
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(two)) for path in two.rglob("*") if path.is_file())
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert TokenStore.open(one, verify=True).digest == TokenStore.open(two).digest


def test_documents_are_ranked_and_whole(made: tuple[Path, Path, Any]) -> None:
    store = TokenStore.open(made[0])
    documents = store.documents("med")
    assert len(store.manifest.sources["med"].train.shards) > 2
    assert (np.diff(documents["score"]) >= 0).all()
    keys = list(zip(documents["score"], documents["hash"], strict=True))
    assert keys == sorted(keys)
    # Every third document is watered down with web words: the best half must be nearly free of them.
    watered = np.array([int(identity[1:]) % 3 == 0 for identity in documents["id"]])
    half = len(watered) // 2
    assert watered[:half].mean() < 0.05 < watered[half:].mean()
    # The tokens between two starts are the document's text and its end.
    loaded = load_tokenizer(str(store.tokenizer_path))
    stream = store.window("med", 0, store.manifest.sources["med"].train.tokens)
    for index in (0, 7, half, len(watered) - 1):
        start, length = documents["start"][index], documents["tokens"][index]
        piece = stream[start : start + length]
        assert piece[-1] == store.manifest.end_of_document
        assert len(loaded.tokenizer.decode(piece[:-1].tolist()).encode()) == documents["bytes"][index]


def test_held_out_documents_are_chosen_by_their_hash_alone(made: tuple[Path, Path, Any]) -> None:
    store = TokenStore.open(made[0])
    for source in ("med", "web"):
        for split, expected in (("train", False), ("heldout", True)):
            hashes = store.documents(source, split)["hash"]  # type: ignore[arg-type]
            assert all(is_held_out(value, CONFIG.heldout_fraction) is expected for value in hashes)


def test_the_funnel_counts_every_document(made: tuple[Path, Path, Any]) -> None:
    funnel = TokenStore.open(made[0]).manifest.funnel
    med = funnel["med"]
    reasons = {reason: count["documents"] for reason, count in med["dropped"].items()}
    assert reasons == {"too_short": 1, "few_letters": 1, "missing_text": 1, "malformed_json": 1}
    assert (
        med["read"]["documents"]
        == 604
        == med["kept"]["documents"] + med["heldout"]["documents"] + sum(reasons.values())
    )
    assert funnel["ref"]["kept"]["documents"] == 80
    assert TokenStore.open(made[0]).manifest.sources.keys() == {"med", "web"}


def test_a_killed_curation_is_made_again_and_a_complete_one_is_kept(
    made: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    one, _, sources = made
    store = tmp_path / "store"
    store.mkdir()
    (store / "CURATING").write_text("")  # what an interrupted run leaves
    (store / "med").mkdir()
    (store / "med" / "train-00099.tokens").write_bytes(b"half")
    curate_in_new_process(store, sources, cpus=2, rows=128)
    assert TokenStore.open(store, verify=True).digest == TokenStore.open(one).digest
    assert not (store / "med" / "train-00099.tokens").exists()
    before = (store / MARKER).stat().st_mtime_ns
    curate_in_new_process(store, sources, cpus=2, rows=128)
    assert (store / MARKER).stat().st_mtime_ns == before
