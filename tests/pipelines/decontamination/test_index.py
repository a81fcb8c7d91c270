"""Look-up of n-grams against plain sets of tuples, whatever the batches; matches at both ends; case and punctuation."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ground.errors import CorruptError, UserError
from pipelines.decontamination import DecontaminationConfig, Hit, Index, TaskConfig, build_index
from pipelines.words import TextBatch

PASSAGE = (
    "The left ventricle pumps oxygenated blood through the aorta to every organ of the body "
    "while the right ventricle sends it to the lungs"
)


def write_task(folder: Path, name: str, items: Sequence[Sequence[str]]) -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"question": list(item)}) + "\n" for item in items))
    return str(path)


def build(folder: Path, tasks: dict[str, Sequence[Sequence[str]]], **options: object) -> Index:
    paths = tuple(write_task(folder, name, items) for name, items in tasks.items())
    return build_index(DecontaminationConfig.model_validate({"paths": paths, **options}), folder / "index")


def hits_of(index: Index, texts: Sequence[str]) -> dict[int, Hit]:
    return index.hits(TextBatch(texts))


WORDS = st.lists(st.sampled_from(["a", "b", "c", "dé"]), max_size=14).map(" ".join)
ITEM = st.lists(WORDS, max_size=3)


def oracle(
    tasks: dict[str, list[list[str]]], text: str, n: int, shortest: int, min_hits: int, min_share: float
) -> tuple[set[str], set[int]]:
    """Tasks and items that a text hits, by sets of tuples."""

    def grams(words: list[str], length: int) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}

    words = text.split()
    names, items, number = set(), set(), 0
    for name in sorted(tasks):
        for item in tasks[name]:
            for evaluation in item:
                size = len(evaluation.split())
                if size >= shortest:
                    wanted = grams(evaluation.split(), min(n, size))
                    found = len(wanted & grams(words, min(n, size)))
                    if found >= min(min_hits, len(wanted)) and found >= min_share * len(wanted):
                        names.add(name)
                        items.add(number)
            number += 1
    return names, items


@settings(max_examples=50)
@given(
    st.dictionaries(st.sampled_from(["x", "y", "z"]), st.lists(ITEM, min_size=1, max_size=4), min_size=1),
    st.lists(WORDS, min_size=1, max_size=6),
    st.integers(2, 6),
    st.integers(2, 6),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_hits_are_those_of_plain_sets(
    tasks: dict[str, list[list[str]]], texts: list[str], n: int, shortest: int, min_hits: int, min_share: float
) -> None:
    shortest = min(n, shortest)
    tasks["usable"] = [["q q q q q q q q"]]
    with tempfile.TemporaryDirectory() as folder:
        for items in tasks.values():
            items.append(["r r r r r r"])  # no file may be without text
        index = build(
            Path(folder), tasks, ngram=n, shortest=shortest, min_hits=min_hits, min_share=min_share, max_items=1000
        )
        found = hits_of(index, texts)
        for number, text in enumerate(texts):
            names, items_hit = oracle(tasks, text, n, shortest, min_hits, min_share)
            assert (number in found) == bool(names)
            if names:
                assert found[number].tasks == tuple(sorted(names))
                assert found[number].items == tuple(sorted(items_hit))
        alone = [hits_of(index, [text]).get(0) for text in texts]
        assert alone == [found.get(number) for number in range(len(texts))]


@pytest.mark.parametrize(
    "text",
    [
        PASSAGE,
        PASSAGE.upper(),
        f"Chapter 3. {PASSAGE}",
        f"{PASSAGE}, as we saw.",
        PASSAGE.replace(" ", " -- ").replace("aorta", "'aorta'"),
        PASSAGE.replace(" ", "\n"),
        "naïve café " + PASSAGE,
        " ".join(PASSAGE.split()[:13]),
        " ".join(PASSAGE.split()[-13:]),
    ],
)
def test_a_planted_passage_is_found_wherever_and_however_it_is_written(tmp_path: Path, text: str) -> None:
    index = build(tmp_path, {"heart": [["Which organ?"], [PASSAGE]]})
    hit = hits_of(index, ["Nothing of note.", text, ""])
    assert list(hit) == [1]
    assert (hit[1].tasks, hit[1].items) == (("heart",), (1,))
    assert "ventricle" in hit[1].excerpt.lower()


def test_twelve_words_or_one_other_word_are_no_hit(tmp_path: Path) -> None:
    index = build(tmp_path, {"heart": [[PASSAGE]]})
    words = PASSAGE.split()
    assert hits_of(index, [" ".join(words[:12]), " ".join([*words[:12], "x", *words[13:24]])]) == {}


def test_words_of_two_documents_or_two_texts_never_join(tmp_path: Path) -> None:
    words = PASSAGE.split()
    index = build(tmp_path, {"heart": [[" ".join(words[:13]), " ".join(words[13:])]]})
    assert hits_of(index, [" ".join(words[:7]), " ".join(words[7:13])]) == {}
    assert hits_of(index, [" ".join(words[5:18])]) == {}


def test_short_texts_are_compared_whole_when_asked_for(tmp_path: Path) -> None:
    question = "Which valve stands between the left atrium and ventricle?"
    task = {"heart": [[question]], "lungs": [[PASSAGE]]}
    text = f"Q: {question.lower()} A: the mitral valve"
    assert hits_of(build(tmp_path, task), [text]) == {}
    assert hits_of(build(tmp_path, task, shortest=8), [text])[0].tasks == ("heart",)


def test_the_excerpt_is_the_first_match_as_written(tmp_path: Path) -> None:
    index = build(tmp_path, {"heart": [[PASSAGE]]})
    (hit,) = hits_of(index, ["Before. " + PASSAGE.replace("ventricle pumps", "Ventricle, pumps")]).values()
    assert hit.excerpt == ("The left Ventricle, pumps oxygenated blood through the aorta to every organ of")


def test_boilerplate_of_many_items_is_ignored(tmp_path: Path) -> None:
    prompt = "The following are multiple choice questions with answers about the anatomy of the human"
    items = [[f"{prompt} heart and number {number}"] for number in range(5)]
    task = {"anatomy": items, "other": [[PASSAGE]]}
    assert hits_of(build(tmp_path, task, max_items=4), [prompt]) == {}
    assert hits_of(build(tmp_path, task, max_items=5), [prompt])[0].items == (0, 1, 2, 3, 4)


def test_the_index_is_the_same_to_the_byte_whatever_the_order(tmp_path: Path) -> None:
    digests = set()
    for number, names in enumerate((["a", "b"], ["b", "a"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        tasks = {name: TaskConfig(paths=(write_task(folder, name, [[PASSAGE], [name + PASSAGE]]),)) for name in names}
        digests.add(build_index(DecontaminationConfig(tasks=tasks), folder / "index").digest)
    assert len(digests) == 1


def test_a_changed_or_missing_file_is_named(tmp_path: Path) -> None:
    build(tmp_path, {"heart": [[PASSAGE]]})
    folder = tmp_path / "index"
    file = folder / "hashes.npy"
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CorruptError, match=r"hashes\.npy"):
        Index.load(folder)
    file.unlink()
    with pytest.raises(CorruptError, match=r"hashes\.npy"):
        Index.load(folder)
    file.write_bytes(good)
    assert np.array_equal(Index.load(folder).hashes, np.load(file))
    (folder / "index.json").write_text("{}")
    with pytest.raises(CorruptError, match=r"index\.json"):
        Index.load(folder)
    with pytest.raises(UserError, match="holds no index"):
        Index.load(tmp_path / "elsewhere")
