"""Real corpora against real evaluation sets: exact counts, beside those that another tool found (``MANIFEST.md`` there)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard

from pipelines.decontamination import DecontaminationConfig, Tally, build_index
from pipelines.words import TextBatch

DATA = Path(__file__).parents[4] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "benchmarks").is_dir(), reason="the shared corpora are not on this machine"),
]

EXPECTED = {
    "medical/openstax_anatomy_microbiology_biology": {"sciq": 143},
    "medical/openstax_nursing_pharm_nutrition_pophealth": {"boolq": 1, "sciq": 1},
    "medical/wikipedia_medical": {"boolq": 2},
    "medical/dailymed_indications": {},
    "general/openstax_textbooks": {"boolq": 1, "mmlu": 9, "sciq": 53},
    "general/state_of_the_union": {"mmlu": 4},
    "general/web_us_government_sites": {"mmlu": 3},
}


def test_the_known_overlap_is_found(tmp_path: Path) -> None:
    config = DecontaminationConfig(paths=(str(DATA / "benchmarks" / "*.jsonl.zst"),))
    index = build_index(config, tmp_path)
    for name, expected in EXPECTED.items():
        lines = (
            zstandard.ZstdDecompressor().stream_reader((DATA / f"{name}.jsonl.zst").read_bytes()).read().split(b"\n")
        )
        texts = [json.loads(line)["text"] for line in lines if line]
        tally = Tally()
        for start in range(0, len(texts), 500):
            tally.add(index.hits(TextBatch(texts[start : start + 500])).values())
        assert tally.documents == expected, name
