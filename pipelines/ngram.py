"""N-gram models over token ids: train one as an ARPA file, score documents with KenLM.

The units are token ids written as decimal numbers. Over subword ids few units are unknown, and a text in another
language or full of markup costs more; over words with rare ones mapped to one symbol, such texts look cheap.
"""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import kenlm
import numpy as np
import numpy.typing as npt

from ground.errors import UserError
from ground.files import write_atomic

_UNKNOWN = "<unk>"
# Kneser-Ney's discount n1 / (n1 + 2 n2) tends to 1 when next to nothing occurs twice, as in a few lines of text, and
# then takes all probability from n-grams seen once: beyond the limit the usual constant of absolute discounting serves.
_LARGEST_DISCOUNT, _USUAL_DISCOUNT = 0.95, 0.75
_LMPLZ_MEMORY = "25%"

Ids = Sequence[int] | Sequence[str] | npt.NDArray[np.uint32]
Trainer = Literal["lmplz", "kaldingram"]


def ngram_trainer() -> Trainer:
    """The program that trains n-gram models here: ``lmplz`` if it is on PATH."""
    return "lmplz" if shutil.which("lmplz") else "kaldingram"


def train_ngram(sequences: Iterable[Ids], order: int, path: Path, trainer: Trainer | None = None) -> None:
    """Train a Kneser-Ney model with ``lmplz`` if it is on PATH, else with kaldingram, which keeps everything in memory.

    The same sequences in the same order, trained by the same program, give the same bytes. kaldingram takes about 8 s a
    million tokens at order 3 and 25 s at order 5; lmplz is faster by far and works on disk.

    Args:
        sequences: token ids (or words) of each document, without end-of-document token; empty ones are left out.
        order: the largest n.
        path: ARPA file to write.
        trainer: absent: ``ngram_trainer()``.

    Raises:
        UserError: there is no token to train on, or ``lmplz`` failed.
    """
    lines: Iterator[str] = filter(None, (" ".join(_words(ids)) for ids in sequences))
    first = next(lines, None)
    if first is None:
        raise UserError(
            "sources", "the reference sources hold no text to train the n-gram model on", "check their paths"
        )
    lines = itertools.chain([first], lines)
    if (trainer or ngram_trainer()) == "lmplz":
        _train_lmplz("lmplz", lines, order, path)
    else:
        write_atomic(path, _train_kaldingram(lines, order))


class NgramModel:
    """A KenLM model (ARPA or binary) over token ids.

    Args:
        path: the model file.
        unknown_log10: log10 probability charged for each token that the model does not know, whatever it gives itself.

    Raises:
        UserError: the file is missing or is no KenLM model.
    """

    def __init__(self, path: Path, unknown_log10: float) -> None:
        self._path, self._unknown_log10 = path, unknown_log10
        config = kenlm.Config()
        config.show_progress = False
        config.arpa_complain = kenlm.ARPALoadComplain.NONE
        try:
            self._model = kenlm.Model(str(path), config)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            mend = "give an .arpa or .bin file that KenLM wrote, or leave it out"
            raise UserError("curation.quality.model", f"cannot read {path} ({reason})", mend) from None
        self._known: dict[str, bool] = {}

    def __reduce__(self) -> tuple[type[NgramModel], tuple[Path, float]]:
        return type(self), (self._path, self._unknown_log10)

    @property
    def order(self) -> int:
        """The largest n."""
        return int(self._model.order)

    def knows(self, token: int) -> bool:
        """Whether the token was in the training text."""
        return self._knows(str(token))

    def score(self, ids: Ids) -> float:
        """Mean negative log10 probability per token, end of sentence included: 10**score is the perplexity.

        Lower is better. No tokens: infinity.
        """
        if not len(ids):
            return math.inf
        words = _words(ids)
        line = " ".join(words)
        if all(map(self._knows, set(words))):
            total = float(self._model.score(line))
        else:  # seven times slower, but only this tells which tokens were charged as unknown
            scores = self._model.full_scores(line)
            total = math.fsum(self._unknown_log10 if unknown else log10 for log10, _, unknown in scores)
        return -total / (len(words) + 1)

    def log10s(self, ids: Ids) -> npt.NDArray[np.float64]:
        """[tokens + 1] log10 probability of each token and of the end, unknown ones at the price asked."""
        scores = self._model.full_scores(" ".join(_words(ids)))
        return np.array([self._unknown_log10 if unknown else log10 for log10, _, unknown in scores])

    def unigram_log10(self, token: int) -> float:
        """log10 probability of a token without any context."""
        state, out = kenlm.State(), kenlm.State()
        self._model.NullContextWrite(state)
        return float(self._model.BaseScore(state, str(token), out))

    def _knows(self, word: str) -> bool:
        known = self._known.get(word)
        if known is None:
            known = self._known[word] = word in self._model
        return known


def _words(ids: Ids) -> list[str]:
    return [str(token) for token in (ids.tolist() if isinstance(ids, np.ndarray) else ids)]


def _train_lmplz(program: str, lines: Iterable[str], order: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the target's own folder: temporary space must hold gigabytes for a large reference, and a rename stays atomic.
    with tempfile.TemporaryDirectory(prefix=".lmplz-", dir=path.parent) as folder:
        text, arpa = Path(folder, "text"), Path(folder, "arpa")
        with open(text, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        command = [program, "--order", str(order), "--text", str(text), "--arpa", str(arpa), "--discount_fallback"]
        command += ["--memory", _LMPLZ_MEMORY, "--temp_prefix", f"{folder}/"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not arpa.is_file():
            reason = " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"
            mend = "take lmplz off PATH to train in memory instead"
            raise UserError("curation.quality.order", f"lmplz failed ({reason})", mend)
        arpa.replace(path)


def _train_kaldingram(lines: Iterable[str], order: int) -> bytes:
    with _quiet_kaldingram() as train, _collector_off():
        counts = train.NgramCounts(order)
        for line in lines:
            counts.add_raw_counts_from_line(line)
        counts.cal_discounting_constants()
        counts.d = [d if d <= _LARGEST_DISCOUNT else _USUAL_DISCOUNT for d in counts.d]
        counts.cal_f()
        counts.cal_bow()
        arpa = io.StringIO()
        counts.print_as_arpa(arpa)
    return _with_unknown(arpa.getvalue()).encode()


@contextlib.contextmanager
def _quiet_kaldingram() -> Iterator[Any]:
    """kaldingram's trainer without its dozen progress bars, which no argument turns off."""
    from kaldingram import train

    bars = train.tqdm
    train.tqdm = lambda iterable, **_: iterable
    try:
        yield train
    finally:
        train.tqdm = bars


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """Millions of live dictionaries without cycles make the cyclic collector scan in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _with_unknown(arpa: str) -> str:
    """Add the ``<unk>`` that kaldingram leaves out and KenLM then charges at 10^-100: here as one word among equals.

    ``NgramModel`` charges its own price; this one is for other readers of the file.
    """
    head, rest = arpa.split("\\1-grams:\n", 1)
    count = int(head.split("ngram 1=", 1)[1].split("\n", 1)[0])
    head = head.replace(f"ngram 1={count}\n", f"ngram 1={count + 1}\n", 1)
    return f"{head}\\1-grams:\n{-math.log10(count + 1):.7f}\t{_UNKNOWN}\n{rest}"
