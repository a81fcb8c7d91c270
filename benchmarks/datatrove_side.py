"""datatrove's side of ``curate_vs_datatrove``. Runs in an environment of its own, which holds nothing of this repository.

    python datatrove_side.py JOB.json

The job names the folder of JSONL files, where to write, the tokenizer, the n-gram model, and the number of workers.
"""

# mypy: ignore-errors
from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import kenlm
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer


class ScoringTokenizer(DocumentTokenizer):
    """datatrove's tokenizer, which also scores every document: its tokens are at hand there, so that none is made twice."""

    name = "tokenizer and KenLM"

    def __init__(self, model: str, scores: str, **options) -> None:
        super().__init__(**options)
        self.model_path, self.scores_path = model, scores
        self.model = self.scores = None

    def run(self, data, rank=0, world_size=1):
        config = kenlm.Config()
        config.show_progress = False
        self.model = kenlm.Model(self.model_path, config)
        with open(f"{self.scores_path}/{rank}.jsonl", "w") as self.scores:
            yield from super().run(data, rank, world_size) or ()
        self.model = self.scores = None

    def get_loss_values(self, document, encoded):
        """Called once for every document; there is no mask to return."""
        ids = encoded.ids[:-1]
        score = -self.model.score(" ".join(map(str, ids))) / (len(ids) + 1)
        self.scores.write(json.dumps({"id": document.id, "tokens": len(ids), "score": score}) + "\n")


def main(path: str) -> None:
    """Run the pipeline and print how long it took and where the time went."""
    job = json.loads(Path(path).read_text())
    Path(job["out"], "scores").mkdir(parents=True)
    pipeline = [
        JsonlReader(job["files"], compression=None),
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(),
        FineWebQualityFilter(),
        ScoringTokenizer(
            job["model"],
            f"{job['out']}/scores",
            output_folder=f"{job['out']}/tokens",
            tokenizer_name_or_path=job["tokenizer"],
            eos_token="<|endoftext|>",
            shuffle_documents=False,
            save_final_metadata=False,
            batch_size=1000,
        ),
    ]
    executor = LocalPipelineExecutor(
        pipeline, tasks=job["workers"], workers=job["workers"], logging_dir=f"{job['out']}/logs"
    )
    started = time.perf_counter()
    executor.run()
    seconds = time.perf_counter() - started
    stats = json.loads(Path(job["out"], "logs", "stats.json").read_text())
    stages = {_plain(step["name"]): step["time_stats"]["total"] for step in stats if step["time_stats"]}
    Path(job["out"], "timing.json").write_text(json.dumps({"seconds": seconds, "stages": stages}))


def _plain(name: str) -> str:
    """The name of a step without its pictures and its kind."""
    return name.rsplit(":", maxsplit=1)[-1].encode("ascii", "ignore").decode().strip()


if __name__ == "__main__":
    main(sys.argv[1])
