"""A small recipe on disk, and the command run in this process."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import cli
from tests.helpers.stores import make_store


@dataclass
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


def write_corpus(path: Path, documents: int, word: str) -> Path:
    """A JSONL corpus of different short prose documents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(
            {
                "id": f"{word}-{i}",
                "text": f"The {word} number {i} is described here. " + f"It has {word} traits {i * 7}. " * 6,
            }
        )
        for i in range(documents)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def small_recipe(folder: Path, *, with_store: bool = True, **changes: Any) -> Path:
    """Write a recipe for a model of a few thousand parameters; ``changes`` replace whole sections."""
    corpora = folder / "corpora"
    raw: dict[str, Any] = {
        "name": "small",
        "work": str(folder / "work"),
        "sources": {
            "med": {"role": "domain", "paths": [str(write_corpus(corpora / "med.jsonl", 200, "symptom"))]},
            "wiki": {"role": "general", "paths": [str(write_corpus(corpora / "wiki.jsonl", 200, "city"))]},
            "ref": {"role": "reference", "paths": [str(write_corpus(corpora / "ref.jsonl", 50, "symptom"))]},
        },
        "curation": {"train_tokenizer": {"vocabulary": 300}, "heldout_fraction": 0.1},
        "model": {
            "init": "random",
            "architecture": {
                "hidden_size": 32,
                "layers": 2,
                "heads": 4,
                "kv_heads": 2,
                "intermediate_size": 64,
                "max_positions": 64,
            },
        },
        "mixture": {"shares": {"med": 0.8, "wiki": 0.2}, "subset_tokens": 6400},
        "training": {
            "sequence_length": 64,
            "global_batch_tokens": 512,
            "micro_batch": 4,
            "learning_rate": 3.0e-3,
            "accelerator": "cpu",
            "threads": 1,
        },
        "evaluation": {"points": 4, "sequences": 8},
        "tracking": {"system_metrics": False},
    }
    raw.update(changes)
    if with_store:
        make_store(folder / "work" / "store", {"med": ("domain", 20_000), "wiki": ("general", 10_000)})
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def long_recipe(
    folder: Path, name: str, *, work: str, steps: int, batch_tokens: int, corpora: str = "corpora", **changes: Any
) -> Path:
    """Write ``NAME.yaml`` and its corpora for a run that takes a minute, so that something can happen to it.

    Args:
        work: the work folder, as the machines that run it see it.
        corpora: the folder of the corpora, likewise.
        changes: replace whole sections.
    """
    whole: dict[str, Any] = {
        "name": name,
        "work": work,
        "sources": {
            source: {"role": role, "paths": [f"{corpora}/{source}.jsonl"]}
            for source, role in (("med", "domain"), ("wiki", "general"), ("ref", "reference"))
        },
        "mixture": {
            "shares": {"med": 0.8, "wiki": 0.2},
            "subset_tokens": batch_tokens * 5,
            "epochs": steps // 5,
            "max_repetition": 1_000_000,
        },
        "training": {
            "sequence_length": 64,
            "global_batch_tokens": batch_tokens,
            "micro_batch": 4,
            "learning_rate": 3.0e-3,
            "accelerator": "cpu",
            "threads": 1,
            "checkpoint_tokens": 5 * batch_tokens,
            "max_failures": 5,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    return small_recipe(folder, with_store=False, **whole | changes).rename(folder / f"{name}.yaml")


def run_steady(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """Run ``steady`` in this process."""
    monkeypatch.setattr(sys, "argv", ["steady", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return Ran(code, captured.out, captured.err)
