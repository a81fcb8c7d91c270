"""The whole against brute force, for any parts, order and number of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ground.files import digest_bytes
from pipelines.dedup import DedupConfig, deduplicate
from tests.pipelines.dedup.corpus import Document, LocalRun, dropped, edited, sign, words

SOURCES = ["a", "b", "c"]
FAMILIES = [words(seed, 160) for seed in range(4)] + [words(10, 3), words(11, 1), []]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    family = FAMILIES[draw(st.integers(0, len(FAMILIES) - 1))]
    text = " ".join(family)
    if len(family) > 10:
        text = edited(family, draw(st.lists(st.sampled_from([10, 80, 81, 150]), max_size=2)))
    text = draw(st.sampled_from([text, text, f"{text}\n", text.upper()]))
    return Document(
        draw(st.sampled_from(SOURCES)),
        draw(st.sampled_from(["1", "2", "3"])),
        text,
        draw(st.sampled_from([False, False, False, True])),
        draw(st.sampled_from([0.0, 1.0, -2.5])),
    )


def brute_force(corpus: Sequence[Document], config: DedupConfig) -> list[str]:
    """Reasons by comparing all pairs and following them."""
    contents = [" ".join(document.text.split()) for document in corpus]
    grams = [shingle_set(text) for text in contents]
    component = list(range(len(corpus)))
    for i in range(len(corpus)):
        for j in range(i):
            if contents[i] == contents[j] or (config.fuzzy and jaccard(grams[i], grams[j]) >= config.fuzzy.threshold):
                old, new = component[i], component[j]
                component = [new if label == old else label for label in component]
    ranks = config.ranks(SOURCES)

    def place(i: int) -> tuple[object, ...]:
        document = corpus[i]
        return ranks[SOURCES.index(document.source)], document.score, document.hash, digest_bytes(document.key), i

    reasons = [""] * len(corpus)
    for label in set(component):
        members = [i for i in range(len(corpus)) if component[i] == label]
        inside = [i for i in members if corpus[i].heldout]
        for i in inside:
            same = [j for j in inside if contents[j] == contents[i] and corpus[j].source == corpus[i].source]
            if i != min(same, key=lambda j: place(j)[2:]):
                reasons[i] = "duplicate"
        for i in (i for i in members if not corpus[i].heldout):
            better = [j for j in members if place(j) < place(i)]
            if inside:
                reasons[i] = "near_heldout"
            elif any(contents[j] == contents[i] for j in better):
                reasons[i] = "duplicate"
            elif better:
                reasons[i] = "near_duplicate"
    return reasons


def shingle_set(text: str) -> frozenset[tuple[str, ...]]:
    tokens = text.lower().split()
    return frozenset(tuple(tokens[i : i + 5]) for i in range(max(len(tokens) - 4, min(1, len(tokens)))))


def jaccard(first: frozenset[object], second: frozenset[object]) -> float:
    return len(first & second) / len(first | second) if first and second else 0.0


def parted(corpus: Sequence[Document], cuts: Sequence[int]) -> list[list[Document]]:
    """Parts of one source each; documents go to the part that ``cuts`` says."""
    parts: dict[tuple[str, int], list[Document]] = {}
    for document, cut in zip(corpus, cuts, strict=True):
        parts.setdefault((document.source, cut), []).append(document)
    return list(parts.values())


CONFIGS = st.sampled_from([DedupConfig(), DedupConfig(fuzzy=None), DedupConfig(priorities=("c",))])


def check(corpus: list[Document], config: DedupConfig, random: Random, task_rows: int) -> None:
    """Compare the fates of all documents with brute force, for two ways to cut the same corpus."""
    wanted = Counter(zip(corpus, brute_force(corpus, config), strict=True))
    outcomes = []
    for rows in (1 << 20, task_rows):
        shuffled = random.sample(corpus, len(corpus))
        parts = parted(shuffled, [random.randrange(3) for _ in shuffled])
        random.shuffle(parts)
        with TemporaryDirectory() as folder:
            found, outcome = dropped(Path(folder), parts, SOURCES, config, rows)
        assert Counter(found) == wanted
        outcomes.append((outcome.counts, outcome.samples))
    assert outcomes[0] == outcomes[1]


CORPORA = st.lists(documents(), min_size=1, max_size=16)
RANDOM = st.randoms(use_true_random=False)


@settings(max_examples=8)
@given(CORPORA, CONFIGS, RANDOM, st.integers(5, 16))
def test_equal_to_brute_force_for_any_parts_order_and_tasks(
    corpus: list[Document], config: DedupConfig, random: Random, task_rows: int
) -> None:
    check(corpus, config, random, task_rows)


@pytest.mark.slow
@settings(max_examples=60)
@given(CORPORA, CONFIGS, RANDOM, st.integers(2, 16))
def test_equal_to_brute_force_often(
    corpus: list[Document], config: DedupConfig, random: Random, task_rows: int
) -> None:
    check(corpus, config, random, task_rows)


def test_every_item_done_again_in_any_order_writes_the_same(tmp_path: Path) -> None:
    run = LocalRun()
    corpus = [Document(SOURCES[i % 3], str(i), edited(FAMILIES[i % 4], [i % 7]), i % 11 == 0) for i in range(40)]
    parts = [sign(tmp_path / str(i), part, DedupConfig()) for i, part in enumerate(parted(corpus, [0] * 40))]
    first = deduplicate(parts, SOURCES, DedupConfig(), tmp_path / "work", run, task_rows=64)
    before = {path: path.read_bytes() for path in (tmp_path / "work").rglob("*.*")}
    for task, item in reversed(run.items):
        task(item)
    assert before == {path: path.read_bytes() for path in (tmp_path / "work").rglob("*.*")}
    again = deduplicate(parts, SOURCES, DedupConfig(), tmp_path / "work", LocalRun(), task_rows=64)
    assert again == first
    assert not list(tmp_path.rglob("*.tmp"))
