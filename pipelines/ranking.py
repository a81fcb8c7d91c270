"""From runs to the shards of all streams: cut each stream into ranges, sort them, cut shards by token offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ground.files import digest_file, link_or_copy
from pipelines import rank
from pipelines.executor import Item, Result
from pipelines.rank import bounds
from pipelines.store import SPLITS, Shard, Split, Stream
from pipelines.work import Made, Work, content_key

_FEW_TOKENS = 30_000_000  # sorted and written in less time than workers take to start


@dataclass(frozen=True)
class Ranked:
    """The streams of a store, in the work folder."""

    shard_tokens: int
    ranges: dict[tuple[str, Split], list[Made]]
    """Sorted ranges of each stream, in order."""
    shards: dict[tuple[str, Split], list[Made]]

    def stream(self, source: str, split: Split) -> Stream:
        """Description of one stream; empty when the source has no document there."""
        results = [made.result for made in self.ranges.get((source, split), [])]
        return Stream(
            tokens=sum(result["tokens"] for result in results),
            documents=sum(result["documents"] for result in results),
            bytes=sum(result["bytes"] for result in results),
            shards=tuple(Shard.model_validate(made.result["shard"]) for made in self.shards.get((source, split), [])),
        )

    def of_source(self, source: str) -> dict[str, list[Result]]:
        """Results of the ranges of both splits, for the funnel."""
        return {split: [made.result for made in self.ranges.get((source, split), [])] for split in SPLITS}


def rank_streams(
    work: Work,
    sources: Sequence[str],
    runs: Sequence[Path],
    results: Sequence[Result],
    reasons: Sequence[Path] | None,
    *,
    shard_bytes: int,
    dtype: str,
) -> Ranked:
    """Sort every stream and write its shards.

    Args:
        sources: name of the source of each run.
        runs: folders of the runs.
        results: what ``tokenise`` returned for each.
        reasons: for each run the file of reason codes over its part's rows; None: every document stays.
    """
    masks = {} if reasons is None else {str(run): str(file) for run, file in zip(runs, reasons, strict=True)}
    digests = {mask: digest_file(Path(mask)) for mask in masks.values()}
    streams: dict[tuple[str, Split], tuple[list[str], list[Result]]] = {}
    for source, run, result in zip(sources, runs, results, strict=True):
        for split in SPLITS:
            if result[split]["documents"]:
                folders, counts = streams.setdefault((source, split), ([], []))
                folders.append(str(run))
                counts.append(result[split])
    items: list[tuple[str, Item]] = []
    owners: list[tuple[str, Split]] = []
    sizes: list[int] = []
    for (source, split), (folders, counts) in sorted(streams.items()):
        samples = [sample for count in counts for sample in count["samples"]]
        dropped = [masks.get(folder) for folder in folders]
        described = [
            [Path(folder).name, digests.get(mask or "")] for folder, mask in zip(folders, dropped, strict=True)
        ]
        for low, high in bounds(samples, sum(count["documents"] for count in counts)):
            item = {"runs": folders, "dropped": dropped, "split": split, "low": low, "high": high}
            items.append((content_key(version=rank.VERSION, runs=described, split=split, low=low, high=high), item))
            owners.append((source, split))
            sizes.append(sum(count["documents"] for count in counts))
    few = sum(result[split]["tokens"] for result in results for split in SPLITS) < _FEW_TOKENS
    ranges: dict[tuple[str, Split], list[Made]] = {}
    for owner, made in zip(owners, work.run("rank", rank.sort_range, items, sizes=sizes, here=few), strict=True):
        ranges.setdefault(owner, []).append(made)
    shard_tokens = shard_bytes // np.dtype(dtype).itemsize
    folders_of = {key: folders for key, (folders, _) in streams.items()}
    shards = _shards(work, ranges, folders_of, shard_tokens, dtype, here=few)
    return Ranked(shard_tokens, ranges, shards)


def _shards(
    work: Work,
    ranges: dict[tuple[str, Split], list[Made]],
    runs: dict[tuple[str, Split], list[str]],
    shard_tokens: int,
    dtype: str,
    *,
    here: bool,
) -> dict[tuple[str, Split], list[Made]]:
    items: list[tuple[str, Item]] = []
    owners: list[tuple[str, Split]] = []
    sizes: list[int] = []
    for (source, split), parts in ranges.items():
        amounts = [made.result["tokens"] for made in parts]
        ends = np.cumsum(amounts)
        for index in range(-(-int(ends[-1]) // shard_tokens)):
            low = int(np.searchsorted(ends, index * shard_tokens, side="right"))
            high = int(np.searchsorted(ends, (index + 1) * shard_tokens, side="left"))
            touched = [str(made.folder) for made in parts[low : high + 1]]
            item: dict[str, Any] = {
                "source": source,
                "split": split,
                "index": index,
                "shard_tokens": shard_tokens,
                "dtype": dtype,
                "first_token": int(ends[low]) - amounts[low],
                "ranges": touched,
                "runs": runs[source, split],
            }
            names = [Path(folder).name for folder in touched]
            determined = {
                key: item[key] for key in ("source", "split", "index", "shard_tokens", "dtype", "first_token")
            }
            items.append((content_key(version=rank.VERSION, ranges=names, **determined), item))
            owners.append((source, split))
            sizes.append(min(shard_tokens, int(ends[-1]) - index * shard_tokens))
    shards: dict[tuple[str, Split], list[Made]] = {}
    for owner, made in zip(owners, work.run("shards", rank.make_shard, items, sizes=sizes, here=here), strict=True):
        shards.setdefault(owner, []).append(made)
    return shards


def link_shards(store: Path, ranked: Ranked) -> None:
    """Put the shards into the store: the same files under a second name where the file system can, else copies."""
    for (source, split), shards in ranked.shards.items():
        (store / source).mkdir(parents=True, exist_ok=True)
        for made in shards:
            for file in sorted((made.folder / source).glob(f"{split}-*")):
                link_or_copy(file, store / source / file.name)
