"""Every user mistake: exit code 2, one line that names field and mend, no traceback, nothing half-valid left."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.store import MARKER
from tests.helpers.recipes import Ran, run_steady, small_recipe


def assert_one_line(ran: Ran, *words: str) -> None:
    assert ran.code == 2, ran
    lines = ran.err.strip().splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("steady: ")
    assert "Traceback" not in ran.out + ran.err
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("command", ["curate", "plan", "train", "report"])
def test_unknown_field(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_recipe(tmp_path, with_store=False)
    ran = run_steady(monkeypatch, capsys, command, str(path), "training.learning_rat=1")
    assert_one_line(ran, "training.learning_rat", "'learning_rate'")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("mixture.shares={med: 0.7, wiki: 0.2}", ("mixture.shares", "sum to 0.9", "make them sum to 1")),
        ("mixture.shares={med: 0.7, news: 0.3}", ("mixture.shares.news", "med, wiki")),
        ("mixture.subset_tokens=9000000", ("mixture.subset_tokens", "20,000", "lower it")),
        ("mixture.epochs=1000", ("mixture.max_repetition", "the limit is 16")),
        ("model.architecture.vocabulary=100", ("model.base", "300", "100")),
        ("training.sequence_length=128", ("training.sequence_length", "64 positions")),
        ("model={base: no/such/folder}", ("model.base", "no/such/folder")),
        ("training.accelerator=gpu", ("training.accelerator", "GPUs")),
    ],
)
def test_a_recipe_that_cannot_run(
    override: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = run_steady(monkeypatch, capsys, "train", str(small_recipe(tmp_path)), override)
    assert_one_line(ran, *words)
    assert not (tmp_path / "work" / "runs").exists()


def test_missing_corpus_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_recipe(tmp_path, with_store=False)
    ran = run_steady(monkeypatch, capsys, "curate", str(path), "sources.med.paths=[no-such-file.jsonl]")
    assert_one_line(ran, "sources.med.paths", "no-such-file.jsonl")
    assert not (tmp_path / "work").exists()


def test_no_store_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_steady(monkeypatch, capsys, "train", str(small_recipe(tmp_path, with_store=False)))
    assert_one_line(ran, "curation.store", "steady curate")


def test_half_written_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_recipe(tmp_path)
    (tmp_path / "work" / "store" / MARKER).unlink()
    for command in ("plan", "train"):
        ran = run_steady(monkeypatch, capsys, command, str(path))
        assert_one_line(ran, "curation.store", "half-written", "steady curate")


def test_corrupt_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_recipe(tmp_path)
    shard = tmp_path / "work" / "store" / "med" / "train-00001.tokens"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(bytes(data))
    ran = run_steady(monkeypatch, capsys, "train", str(path))
    assert_one_line(ran, "train-00001.tokens", "checksum")
    assert not (tmp_path / "work" / "runs").exists()


def test_tracking_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that does not answer is no mistake: ``tests/tracking/test_outage.py``."""
    uri = f"sqlite:///{tmp_path}/corpora/med.jsonl"
    ran = run_steady(monkeypatch, capsys, "train", str(small_recipe(tmp_path)), f"tracking.uri={uri}")
    assert_one_line(ran, "tracking.uri", "med.jsonl cannot be opened as SQLite")
    assert not list((tmp_path / "work" / "runs").glob("*/result.json"))


def test_report_before_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_one_line(run_steady(monkeypatch, capsys, "report", str(small_recipe(tmp_path))), "runs", "steady train")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "words"),
    [("", ("sources.med", "its files are empty")), ('{"text": "short"}\n', ("sources.med", "too_short 1"))],
    ids=["empty file", "nothing passes the filters"],
)
def test_empty_corpus(
    text: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = small_recipe(tmp_path, with_store=False)
    (tmp_path / "corpora" / "med.jsonl").write_text(text)
    ran = run_steady(monkeypatch, capsys, "curate", str(path))
    assert_one_line(ran, *words)
    assert not (tmp_path / "work" / "store" / MARKER).exists()
    again = run_steady(monkeypatch, capsys, "plan", str(path))
    assert_one_line(again, "curation.store", "half-written")
