"""The tables of docs/scaling.md: `python -m docs.scaling` renews them between the page's markers.

Their numbers come from ``docs/quantities.py``: benchmarks, the product's own planning, measurements by hand, and assumptions,
which are told apart. Nothing is started and nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from docs.goodput import Checkpoints, Faults, Run, daly_goodput, daly_interval, expected_maximum, simulate
from docs.quantities import (
    ASSUMED,
    GPUS_A_NODE,
    ITEM_BYTES,
    MEASURED,
    SCALES,
    TOKENS_IN,
    benchmark,
    checkpoint_bytes,
    checkpoint_costs,
    driver_bytes,
    evaluation_share,
    feed_rate,
    makespan,
    micro_seconds,
    planned,
    step_seconds,
    value,
)
from training.config import Architecture
from training.flops import flops_per_token, parameter_count
from training.memory import memory

PAGE = Path(__file__).parent / "scaling.md"
SMALL = Architecture(
    hidden_size=2048, layers=22, heads=32, kv_heads=4, intermediate_size=5632, max_positions=2048, tied_embeddings=False
)
"""1.1 B parameters with a vocabulary of 32,000, the shape of TinyLlama."""


def curation() -> str:
    """From 50 B tokens of web text, and from all of RefinedWeb, to a store."""
    rows = []
    for label, share in (
        ("50 B tokens", TOKENS_IN / value("web_tokens")),
        ("all 600 B tokens", 1.0),
    ):
        text, documents = 1e9 * value("web_gb") * share, value("web_documents") * share
        tokens = value("web_tokens") * share
        core_mb_s = value("filtered_mb_s")
        core_s = text / 1e6 / core_mb_s
        spans = [makespan(text, cores) for cores in (64, 1024)]
        rows.append(
            [label, _big(documents), f"{text / 1e9:,.0f} GB", f"{tokens * 4 / 1e9:,.0f} GB", f"{core_s / 3600:,.1f}"]
            + [f"{s / 60:,.0f} min ({core_s / cores / s:.0%})" for s, cores in zip(spans, (64, 1024), strict=True)]
            + [" / ".join(f"{min(cores, text / ITEM_BYTES) * core_mb_s / 1e3:.2g} GB/s" for cores in (64, 1024))]
            + [f"{driver_bytes(tokens, documents, text) / 1e6:,.0f} MB"]
        )
    head = (
        "in | documents | text | store | core-hours | 64 cores (busy) | 1,024 cores (busy) | "
        "reads at 64 / 1,024 | items at the driver"
    )
    return table(head, rows)


def training() -> str:
    """The run on 16 and on 512 GPUs."""
    columns = []
    for gpus in SCALES:
        plan, step_s, micro_s = planned(gpus).plan, step_seconds(gpus), micro_seconds()
        rate = plan.total_tokens / (step_s * plan.steps)
        weights = 2.0 * planned(gpus).estimate.parameters
        columns.append(
            [
                f"{plan.batch_sequences:,} x {plan.sequence_length:,} = {_big(plan.batch_sequences * plan.sequence_length)}",
                f"{plan.steps:,}",
                f"{step_s:.2f} s",
                _time(step_s * plan.steps),
                f"{rate:,.0f}",
                f"{rate * 4 / 1e6:.1f} MB/s, {rate / plan.sequence_length:,.0f} reads of {plan.sequence_length * 4 // 1024} KiB",
                f"{feed_rate() / (rate / gpus):,.0f} times",
                f"{memory(planned(gpus).load).total / 1e9:.0f} GB",
                f"{3 * weights / micro_s / 1e9:.0f} GB/s",
                f"{3 * weights / step_s / 1e9:.0f} GB/s",
                f"{evaluation_share(gpus):.1%}",
            ]
        )
    names = [
        "global batch (sequences)",
        "steps",
        "step",
        "time in steps",
        "tokens/s",
        "token store, all workers",
        "feed measured on one core, over what a worker needs",
        "memory of a GPU at ZeRO 3",
        "network of a node that hides ZeRO 3",
        "network of a node that hides ZeRO 1",
        "held-out evaluation, of the time in steps",
    ]
    rows = [[name, *cells] for name, *cells in zip(names, *columns, strict=True)]
    return table(" | ".join(["", *(f"{gpus} GPUs" for gpus in SCALES)]), rows)


def checkpoints() -> str:
    """Sizes and rates of the recipe's checkpoints."""
    rows = []
    for gpus in SCALES:
        cost = checkpoint_costs(gpus)
        interval, size = cost.every * step_seconds(gpus), checkpoint_bytes()
        rows.append(
            [
                f"{gpus}",
                f"{size / 1e9:.0f} GB",
                f"{size / gpus / 1e9:.2f} GB",
                f"{size / gpus * GPUS_A_NODE / 1e9:.0f} GB",
                f"{cost.held_s:.1f} s ({cost.held_s / interval:.2%})",
                f"{cost.written_s:.0f} s",
                _time(interval),
                f"{size / interval / 1e9:.2f} GB/s",
                f"{planned(gpus).plan.steps // cost.every * size / 1e12:.1f} TB",
            ]
        )
    head = (
        "GPUs | checkpoint | a worker | CPU memory of a node | training held up | whole after | every | "
        "storage, on average | written in all"
    )
    return table(head, rows)


def goodput(seeds: int = 200) -> str:
    """Closed form beside simulation."""
    rows = []
    for gpus in SCALES:
        nodes, step_s, steps = gpus // GPUS_A_NODE, step_seconds(gpus), planned(gpus).plan.steps
        restart = value("restart_s") + checkpoint_bytes() / (1e9 * value("storage_gb_s"))
        for label, mtbf in (
            ("as Llama 3", value("gpu_hours_a_failure") * 3600 / gpus),
            ("spot", 3600 * value("spot_node_h") / nodes),
        ):
            cost = checkpoint_costs(gpus)
            best = max(daly_interval(cost.held_s, mtbf), cost.written_s)
            at_best = Checkpoints(max(1, round(best / step_s)), cost.held_s, cost.written_s)
            still, faults = Faults(mtbf, restart), Faults(mtbf, restart, value("jitter"))
            runs = [simulate(Run(steps, step_s, nodes), cost, faults, seed) for seed in range(seeds)]
            values = np.array([run.goodput for run in runs])
            slow = 1 + value("jitter") * expected_maximum(nodes)
            rows.append(
                [
                    f"{gpus}, {label}",
                    _time(mtbf),
                    f"{np.mean([run.failures for run in runs]):.2f}",
                    _time(cost.every * step_s),
                    f"{daly_goodput(cost.every * step_s, cost, still) / slow:.1%}",
                    f"{values.mean():.1%} ± {values.std():.1%}",
                    f"{np.percentile(values, 5):.1%}",
                    _time(best),
                    f"{daly_goodput(at_best.every * step_s, at_best, still) / slow:.1%}",
                ]
            )
    head = (
        "GPUs, failures | MTBF of all | failures in a run | a checkpoint every | goodput, closed form | "
        f"simulated, {seeds} seeds | worst of twenty | best interval | goodput there"
    )
    return table(head, rows)


def search() -> str:
    """A hundred trials, at the whole run and at a small stand-in for it."""
    rows, mean = [], 0.25 + 0.5 * 0.25 + 0.25 * 0.5
    large = planned(16).estimate
    small_flops, small_name = (
        flops_per_token(SMALL, 32_000, 2048) * 1e9,
        f"{parameter_count(SMALL, 32_000) / 1e9:.1f} B",
    )
    small_step_s = small_flops / 1e9 * 524_288 / (989e12 * value("utilisation") * 8)
    for label, flops, gpus, batch_s in (
        (f"{large.parameters / 1e9:.1f} B, 20 B tokens", large.flops, 16, step_seconds(16)),
        (f"{small_name}, 1 B tokens", small_flops, 8, small_step_s),
    ):
        rate, total = 989e12 * value("utilisation"), 100 * mean * flops
        for held in SCALES:
            at_once = min(held // gpus, 16)
            batches = at_once * min(1 / batch_s, 0.5)
            rows.append(
                [
                    label,
                    f"{held}",
                    f"{at_once} x {gpus} GPUs",
                    f"{total:.1e}",
                    f"{total / rate / 3600:,.0f}",
                    _time(total / rate / at_once / gpus),
                    f"${total / rate / 3600 * value('gpu_hour'):,.0f}",
                    f"{at_once * 12 / batch_s:.1f}",
                    f"{batches:.1f} ({batches / value('mlflow_http'):.0%})",
                ]
            )
    head = (
        "a trial | GPUs | at once | FLOP in all | GPU-hours | time | cost | metrics/s | "
        "MLflow batches/s (of one server worker)"
    )
    return table(head, rows)


def cost() -> str:
    """Money, by the assumed prices."""
    core_hours = 1e9 * value("web_gb") * TOKENS_IN / value("web_tokens") / 1e6 / value("filtered_mb_s") / 3600
    estimate = planned(16).estimate
    assert estimate.seconds is not None
    gpu_hours = estimate.seconds * 16 / 3600
    stored = (1e9 * value("web_gb") * TOKENS_IN / value("web_tokens") + TOKENS_IN * 4 + 3 * checkpoint_bytes()) / 1e9

    def dollars(amount: float, price: str) -> str:
        return f"${amount * value(price):,.{0 if amount * value(price) > 10 else 2}f}"

    rows = [
        ["curation of 50 B tokens", f"{core_hours:,.1f} core-hours", dollars(core_hours, "core_hour")],
        ["training, 20 B tokens, 8 B parameters", f"{gpu_hours:,.0f} GPU-hours", dollars(gpu_hours, "gpu_hour")],
        ["text, store, three checkpoints", f"{stored:,.0f} GB for a month", dollars(stored, "gb_month")],
        ["one per cent of goodput", f"{gpu_hours / 100:,.1f} GPU-hours", dollars(gpu_hours / 100, "gpu_hour")],
    ]
    return table("what | how much | cost", rows)


def first() -> str:
    """What breaks, in the order in which a growing user meets it."""
    micro, weights = micro_seconds(), 2.0 * planned(16).estimate.parameters
    slow = 3 * weights / 12.5e9 / micro
    polls = value("poll_s") / 512 / 0.2
    large = driver_bytes(value("web_tokens"), value("web_documents"), 1e9 * value("web_gb"))
    rows = [
        [
            "global batch",
            "192 sequences",
            "a number of GPUs that does not divide it: `steady plan` refuses; 4.2 M tokens serve 512, with 0.37 of the updates",
        ],
        [
            "network under ZeRO 3",
            f"{3 * weights / micro / 1e9:.0f} GB/s a node",
            f"with 100 Gbit/s a step takes {slow:.1f} times as long; on 80 GB take `zero_stage: 1`, which sends once a step",
        ],
        [
            "one MLflow server worker",
            f"{value('mlflow_http'):.1f} batches/s",
            f"more than {int(value('mlflow_http') / 0.5)} runs at once: more `--workers`, PostgreSQL; training never waits",
        ],
        [
            "spot nodes at 512 GPUs",
            f"{_time(3600 * value('spot_node_h') / 64)} between losses",
            "see goodput: checkpoint more often, or a batch that fewer workers divide too (`min_workers`)",
        ],
        [
            "storage of checkpoints",
            f"{checkpoint_bytes() / value('storage_gb_s') / 1e9:.0f} s a checkpoint",
            "at 512 GPUs the write bounds how often one can be made, not the copy",
        ],
        [
            "Ray Train's controller",
            f"{polls * 512:.0%} of a core at 512 workers",
            f"about {1 / polls:,.0f} workers at a poll every 0.2 s; raise `RAY_TRAIN_HEALTH_CHECK_INTERVAL_S`",
        ],
        [
            "driver of curation",
            f"{large / 1e9:,.0f} GB of items",
            "all of RefinedWeb at once: the last stages name every part in every item; curate 100 B tokens at a time",
        ],
    ]
    return table("part | limit | when, and what then", rows)


def measured() -> str:
    """What the tables rest on."""
    scaling = benchmark("curate_scaling_1_2")
    copies = 16 / 3 * benchmark("curate_throughput")["details"]["mb_of_text"]
    two = sorted(entry["2"] for entry in scaling["details"]["seconds"])[1]
    saved = benchmark("checkpoint_overhead")["details"]["workers_1"]
    size, held, written = saved["checkpoint_bytes"], saved["held_s"]["median"], saved["writing_s"]["median"]
    trillion = benchmark("plan_trillion_ms")["value"]
    rows = [
        [f"{copies / two / 2:.1f} MB/s a core", "whole curation, default filters, two cores", "`curate_scaling_1_2`"],
        [f"{scaling['value']:.2f} of 2", "two cores over one", "`curate_scaling_1_2`"],
        [f"{feed_rate() / 1e6:.1f} M tokens/s", "training's feed alone, from disk, one process", "`data_wait`"],
        [f"{size / held / 1e9:.2f} GB/s", "states copied in CPU memory, one worker", "`checkpoint_overhead`"],
        [f"{size / written / 1e6:.0f} MB/s", "checkpoint with checksums to disk, one worker", "`checkpoint_overhead`"],
        [f"{trillion:.0f} ms", "a plan over 10^12 tokens and 1,000 look-ups", "`plan_trillion_ms`"],
    ]
    rows += [[f"{number:g} {unit}", what, "by hand"] for number, unit, what in MEASURED.values()]
    return table("number | what | from", rows)


def assumed() -> str:
    """What nobody here has measured."""
    return table("number | what", [[f"{_big(number)} {unit}", what] for number, unit, what in ASSUMED.values()])


BLOCKS: dict[str, Callable[[], str]] = {
    "measured": measured,
    "assumed": assumed,
    "curation": curation,
    "training": training,
    "checkpoints": checkpoints,
    "goodput": goodput,
    "search": search,
    "cost": cost,
    "first": first,
}


def renewed(page: str) -> str:
    """The page with all its tables computed again."""

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}\n{BLOCKS[match[2]]()}{match[4]}"

    return re.sub(r"(<!-- numbers: (\w+) -->)\n(.*?)(<!-- end -->)", block, page, flags=re.DOTALL)


def table(head: str, rows: Sequence[Sequence[str]]) -> str:
    """Markdown; ``head`` has its bars already."""
    lines = [head, " | ".join(["---"] * (head.count("|") + 1)), *(" | ".join(row) for row in rows)]
    return "".join(f"| {line} |\n" for line in lines)


def _time(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def _big(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.4g}" if number < 1000 else f"{number:,.0f}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
