"""Which member of a component stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ground.errors import CorruptError, UserError
from pipelines.dedup import DedupConfig, FuzzyConfig, choose_members, deduplicate, find_duplicates, read_reasons
from tests.pipelines.dedup.corpus import Document, LocalRun, dropped, edited, sign, words

BASE = words(7, 150)
TEXT = " ".join(BASE)
NEAR = edited(BASE, [40])


def reasons(folder: Path, *parts: list[Document], config: DedupConfig | None = None) -> dict[str, str]:
    sources = list(dict.fromkeys(part[0].source for part in parts))
    return {document.key: reason for document, reason in dropped(folder, parts, sources, config)[0]}


def test_the_better_score_stays(tmp_path: Path) -> None:
    found = reasons(tmp_path, [Document("a", "worse", TEXT, score=2.0), Document("a", "better", NEAR, score=-1.0)])
    assert found == {"worse": "near_duplicate", "better": ""}


def test_priority_goes_before_the_score(tmp_path: Path) -> None:
    parts = [Document("a", "first", TEXT, score=2.0)], [Document("b", "second", NEAR, score=-1.0)]
    assert reasons(tmp_path / "1", *parts) == {"first": "", "second": "near_duplicate"}
    config = DedupConfig(priorities=("b",))
    assert reasons(tmp_path / "2", *parts, config=config) == {"first": "near_duplicate", "second": ""}


def test_exact_copies_are_told_from_near_ones(tmp_path: Path) -> None:
    documents = [
        Document("a", "kept", TEXT, score=0.0),
        Document("a", "copy", TEXT.replace(" ", "  "), score=1.0),
        Document("a", "near", NEAR, score=0.5),
        Document("a", "copy of near", f"{NEAR}\n", score=0.6),
        Document("a", "other", " ".join(words(8, 150))),
    ]
    expected = {"kept": "", "copy": "duplicate", "near": "near_duplicate", "copy of near": "duplicate", "other": ""}
    assert reasons(tmp_path / "1", documents) == expected
    exact_only = DedupConfig(fuzzy=None)
    assert reasons(tmp_path / "2", documents, config=exact_only) == expected | {"near": ""}
    nothing = DedupConfig(exact=False, fuzzy=None)
    assert set(reasons(tmp_path / "3", documents, config=nothing).values()) == {""}


@pytest.mark.parametrize("heldout", [False, True])
def test_of_equal_texts_the_ids_decide_not_the_order(tmp_path: Path, heldout: bool) -> None:
    copies = [Document("a", str(i), TEXT, heldout) for i in range(6)]
    stays = []
    for index, order in enumerate(([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5, 2, 4, 1])):
        found = reasons(tmp_path / str(index), [copies[i] for i in order[:2]], [copies[i] for i in order[2:]])
        assert sorted(found.values()) == ["", *["duplicate"] * 5]
        stays += [key for key, reason in found.items() if not reason]
    assert len(set(stays)) == 1


def test_a_chain_is_one_component(tmp_path: Path) -> None:
    chain = [Document("a", str(i), edited(BASE, range(3 * i)), score=float(i != 4)) for i in range(9)]
    found = reasons(tmp_path, chain)
    assert found == {str(i): "" if i == 4 else "near_duplicate" for i in range(9)}


def test_training_documents_near_a_held_out_one_all_go(tmp_path: Path) -> None:
    found = reasons(
        tmp_path,
        [Document("a", "copy", TEXT, score=-9.0), Document("a", "near", NEAR, score=-9.0)],
        [Document("b", "held out", f" {TEXT}", heldout=True, score=9.0), Document("b", "far", "a few other words")],
    )
    assert found == {"copy": "near_heldout", "near": "near_heldout", "held out": "", "far": ""}


def test_held_out_documents_are_the_same_whatever_else_is_there(tmp_path: Path) -> None:
    heldout = [
        Document("b", "one", TEXT, heldout=True, score=5.0),
        Document("b", "copy of one", TEXT, heldout=True),
        Document("b", "near one", NEAR, heldout=True),
    ]
    alone = reasons(tmp_path / "1", heldout)
    assert sorted(alone.values()) == ["", "", "duplicate"]
    assert alone["near one"] == ""
    others = [Document("a", "held out too", TEXT, heldout=True), Document("a", "training", TEXT)]
    together = reasons(tmp_path / "2", others, heldout)
    assert {key: together[key] for key in alone} == alone
    assert together["held out too"] == ""


def test_counts_and_samples(tmp_path: Path) -> None:
    parts = [
        [Document("a", "kept", TEXT), Document("a", "empty", "?"), Document("a", "empty too", "?")],
        [Document("b", "near", NEAR), Document("b", "held out", " ".join(words(9, 90)), heldout=True)],
        [Document("b", "near held out", edited(words(9, 90), [3]))],
    ]
    _, outcome = dropped(tmp_path, parts, ["a", "b"])
    assert outcome.counts == {"a": {"duplicate": 1}, "b": {"near_duplicate": 1, "near_heldout": 1}}
    pairs = {entry["reason"]: (entry["dropped"]["id"], entry["kept"]["id"]) for entry in outcome.samples}
    assert set(pairs.pop("duplicate")) == {"empty", "empty too"}
    assert pairs == {"near_duplicate": ("near", "kept"), "near_heldout": ("near held out", "held out")}
    near = next(entry for entry in outcome.samples if entry["reason"] == "near_duplicate")
    assert 0.85 < near["similarity"] < 1.0
    assert near["kept"] == {"source": "a", "id": "kept", "hash": parts[0][0].hash}


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    config = DedupConfig()
    part = sign(tmp_path / "part", [Document("a", "1", TEXT), Document("a", "2", NEAR)], config)
    work, run = tmp_path / "work", LocalRun()
    with pytest.raises(UserError, match="'b' is no source"):
        find_duplicates([part], ["a"], DedupConfig(priorities=("b",)), work, run)
    with pytest.raises(CorruptError, match="of another kind"):
        find_duplicates([part], ["a"], DedupConfig(fuzzy=FuzzyConfig(permutations=128)), work, run)
    found = find_duplicates([part], ["a"], config, work, run)
    for wrong in (np.zeros(3), np.array([0.0, np.nan])):
        np.save(tmp_path / "scores.npy", wrong)
        with pytest.raises(CorruptError, match="scores"):
            choose_members(work, found, [str(tmp_path / "scores.npy")], run)


def test_a_corpus_of_no_or_one_document(tmp_path: Path) -> None:
    single = sign(tmp_path / "part-0", [Document("a", "1", TEXT)], DedupConfig())
    outcome = deduplicate([], ["a"], DedupConfig(), tmp_path / "none", LocalRun())
    assert outcome.reasons == []
    outcome = deduplicate([single], ["a"], DedupConfig(), tmp_path / "one", LocalRun())
    assert read_reasons(outcome.reasons[0]).tolist() == [0]
