"""Read an n-gram model in the ARPA format (the text format of SRILM and KenLM) into arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from ground.errors import UserError

SPECIAL = ("<s>", "</s>", "<unk>")

_MEND = "give an .arpa or .bin file that KenLM wrote, or leave it out"
_WITHOUT_BACKOFF = re.compile(rb"^([^\t\n]*\t[^\t\n]*)$", re.MULTILINE)


@dataclass(frozen=True)
class Grams:
    """All n-grams of one order."""

    ids: NDArray[np.int64]
    """[n-grams, order]: 0, 1, 2 for ``<s>``, ``</s>``, ``<unk>``, then the units counted from 3."""
    log10: NDArray[np.float32]
    """[n-grams] log10 probability."""
    backoff: NDArray[np.float32]
    """[n-grams] log10 backoff weight; 0 where the file has none."""


def read_arpa(path: Path, units: Sequence[str] | None = None) -> tuple[list[str], list[Grams]]:
    """The units and the n-grams of orders 1 to n.

    Args:
        path: the file; it is read whole.
        units: names of the units with the ids 0, 1, ...; n-grams with others are left out. Absent: those of the file, sorted.

    Raises:
        UserError: the file is missing or is no ARPA model.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError("curation.quality.model", f"cannot read {path} ({error.strerror})", _MEND) from None
    sections = re.split(rb"^\\(\d+)-grams:[ ]*\r?\n", content.replace(b"\r\n", b"\n"), flags=re.MULTILINE)[1:]
    if not sections:
        raise UserError("curation.quality.model", f"cannot read {path} (no n-grams in it)", _MEND)
    names = list(units) if units is not None else []
    grams = []
    for order, body in zip(map(int, sections[::2]), sections[1::2], strict=True):
        try:
            table = _read_section(body)
            if order == 1 and units is None:
                names = sorted(set(table.column("words").to_pylist()) - set(SPECIAL))
            grams.append(_numbered(table, order, pa.array([*SPECIAL, *names], pa.string())))
        except (pa.ArrowInvalid, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError("curation.quality.model", f"cannot read {path} ({order}-grams: {reason})", _MEND) from None
    return names, grams


def _read_section(body: bytes) -> pa.Table:
    lines = body.split(b"\n\n", 1)[0].split(b"\n\\", 1)[0].strip(b"\n")
    return pyarrow.csv.read_csv(
        pa.BufferReader(_WITHOUT_BACKOFF.sub(rb"\1\t0", lines) + b"\n"),
        pyarrow.csv.ReadOptions(column_names=["log10", "words", "backoff"]),
        pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False, newlines_in_values=False),
        pyarrow.csv.ConvertOptions(
            column_types={"log10": pa.float32(), "words": pa.string(), "backoff": pa.float32()},
            strings_can_be_null=False,
        ),
    )


def _numbered(table: pa.Table, order: int, names: pa.Array) -> Grams:
    words = pc.split_pattern(table.column("words").combine_chunks(), " ")
    if pc.any(pc.not_equal(pc.list_value_length(words), order)).as_py():
        raise ValueError(f"a line that has not {order} units")
    ids = pc.index_in(words.flatten(), names).fill_null(-1).to_numpy(zero_copy_only=False)
    ids = ids.astype(np.int64).reshape(-1, order)
    known = (ids >= 0).all(axis=1)
    log10, backoff = (table.column(name).to_numpy().astype(np.float32) for name in ("log10", "backoff"))
    return Grams(ids[known], log10[known], backoff[known])
