"""A made-up but realistic report: three runs, one domain source, three general ones."""

from __future__ import annotations

import itertools
import math
from typing import Any

from tracking.curation import read_funnel
from tracking.report_data import (
    BaseModel,
    Curve,
    Gap,
    PairedDifference,
    ReportData,
    RunData,
    TaskResults,
    TaskScore,
    Totals,
)

BASE = {"medical": 4.262, "wikipedia": 3.871, "documentation": 3.604, "code": 2.918}
TOKENS = 2_097_152
STEP = 4096


def sample_report(runs: int = 3) -> ReportData:
    """``runs`` of at most three runs."""
    made = (
        _run("everything-once", "All domain text, once, in random order.", {"medical": 1.0}, 0.30, 0.060, 0.34, 1),
        _run("best-subset", "The best half by perplexity, four epochs.", {"medical": 1.0}, 0.36, 0.045, 0.27, 2),
        _run(
            "full-recipe",
            "The best half, four epochs, with the pre-training mixture beside it.",
            {"medical": 0.5, "wikipedia": 0.28, "documentation": 0.12, "code": 0.1},
            0.41,
            0.018,
            0.035,
            3,
        ),
    )
    return ReportData(
        title="Demo: medical text into a tiny Llama",
        created="2 March 2026, 14:05",
        recipe="name: demo\nseed: 7\nsources:\n  medical:\n    role: domain\n    paths: [s3://me:hunter2@bucket/med]\n",
        base=BaseModel(
            name="models/tiny-base",
            parameters=4_200_000,
            losses=BASE,
            bits_per_byte={"medical": 1.92, "wikipedia": 1.74},
            note="5-gram KenLM baseline: 2.31 bits per byte on wikipedia",
        ),
        runs=made[:runs],
        tasks=(sample_tasks("base model", "", 0.0), *(sample_tasks(run.name, run.name, 0.02) for run in made[:runs])),
        funnel=read_funnel(sample_funnel()),
        score_label="quality score, nats",
        versions={
            "steady": "0.1.0",
            "torch": "2.13.0",
            "deepspeed": "0.19.8",
            "store": "9f" * 16,
            "machine": "2 cores",
        },
        seed=7,
    )


def sample_tasks(model: str, run: str, gain: float) -> TaskResults:
    """What a model answered: one group of two tasks; the second gains nothing."""
    known = (("medical", True, 1_500, 1.0), ("medqa_4options", False, 1_000, 2.0), ("pubmedqa", False, 500, 0.0))
    scores = [
        TaskScore(
            name=name,
            group=group,
            items=items,
            accuracy=0.31 + factor * gain,
            stderr=0.4 / math.sqrt(items),
            difference=PairedDifference(value=factor * gain, low=factor * gain - 0.011, high=factor * gain + 0.012)
            if run
            else None,
        )
        for name, group, items, factor in known
    ]
    return TaskResults(model=model, run=run, against="base model" if run else "", scores=tuple(scores))


def sample_funnel() -> dict[str, Any]:
    """The funnel of a manifest: two domain sources, three general ones, a reference."""
    leaflets = {"too_short": 40, "gopher_repetition_top_2_gram": 31, "near_duplicate": 12, "contaminated": 9}
    return {
        "medical": _source(
            "domain", 14_210, 31_400_000, {"malformed_json": 15, "too_short": 812, "few_letters": 97, "duplicate": 204}
        )
        | {
            "repaired": {"unicode": 120, "boilerplate_lines": 256},
            "redacted": {"DATE": 1200, "PHONE": 31},
            "examples": {"too_short": [["medical-7", "See <b>above</b> & [bold]below[/bold]."], ["medical-9", "Nil."]]},
            "scores": _scores(2.2),
        },
        "patient-leaflets": _source("domain", 2_000, 4_000_000, leaflets)
        | {
            "contaminated": {"medqa_us": 7, "pubmedqa": 3},
            "scores": _scores(2.6),
            "pairs": [
                {
                    "kept": "leaflet-1",
                    "dropped": "leaflet-2",
                    "similarity": 0.93,
                    "reason": "near_duplicate",
                    "kept_source": "medical",
                },
                {"kept": "leaflet-3", "dropped": "leaflet-4", "similarity": None, "reason": "near_duplicate"},
            ],
        },
        "wikipedia": _source("general", 9_803, 24_900_000, {"too_short": 1_204, "repeated_lines": 61}),
        "documentation": _source("general", 6_020, 9_100_000, {f"reason_{i:02d}": 100 - i for i in range(30)}),
        "code": _source("general", 5_110, 12_300_000, {"few_letters": 801, "repeated_lines": 420, "too_long": 3}),
        "textbook": _source("reference", 1_902, 6_200_000, {"too_short": 12}),
    }


def old_funnel() -> dict[str, Any]:
    """The same as a store of before told it: by reason only."""
    known = ("role", "read", "dropped", "kept", "heldout")
    return {name: {key: source[key] for key in known} for name, source in sample_funnel().items()}


_STAGE_OF = {
    "malformed_json": 0,
    "contaminated": 2,
    "duplicate": 3,
    "near_duplicate": 3,
}


def _source(role: str, documents: int, size: int, dropped: dict[str, int]) -> dict[str, Any]:
    stored = role != "reference"
    counts = {
        reason: {"documents": n, "bytes": 0 if "malformed" in reason else 100 * n} for reason, n in dropped.items()
    }
    stages, left, text = [], documents, size
    for number, stage in enumerate(("read", "filters", "decontamination", "duplicates")):
        for reason, count in counts.items():
            if _STAGE_OF.get(reason, 1) == number:
                left, text = left - count["documents"], text - count["bytes"]
        stages.append({"stage": stage, "documents": left, "bytes": text, "tokens": text // 4 if stored else 0})
    held = left // 100 if stored else 0
    text = text * 98 // 100  # repairs cut the rest
    return {
        "role": role,
        "read": {"documents": documents, "bytes": size},
        "dropped": counts,
        "kept": {"documents": left - held, "bytes": text - text // 100, "tokens": text // 4 if stored else 0},
        "heldout": {"documents": held, "bytes": text // 100, "tokens": text // 400 if stored else 0},
        "stages": stages,
    }


def _scores(centre: float) -> dict[str, Any]:
    bins = {str(round(centre / 0.05) + i): [40 - abs(i), 1000 * (40 - abs(i))] for i in range(-20, 30)}
    return {"width": 0.05, "bins": bins | {"400": [1, 20]}}


def _run(
    name: str, description: str, shares: dict[str, float], gain: float, bump: float, loss: float, wave: int
) -> RunData:
    marks = [0, *(STEP << i for i in range(6)), *range(STEP * 64, TOKENS + 1, STEP * 32)]
    curves: dict[str, Curve] = {}
    for source, base in BASE.items():
        curves[f"heldout/{source}/loss"] = tuple(
            (t, base + _shape(t / TOKENS, source, gain, bump, loss, wave)) for t in marks
        )
    steps = range(STEP, TOKENS + 1, STEP)
    curves["train/loss"] = tuple((t, 3.7 - 0.5 * (t / TOKENS) ** 0.4 + 0.1 * _noise(t * wave)) for t in steps)
    curves["train/tokens_per_second"] = tuple((t, 2600 + 90 * _noise(t * wave * 7) - 300 * (t == STEP)) for t in steps)
    curves["train/learning_rate"] = tuple(
        (t, 3e-4 * min(1, t / 2e5) * (1 + math.cos(3 * t / TOKENS)) / 2) for t in steps
    )
    curves["train/data_wait"] = tuple((t, 0.004) for t in steps)
    curves |= _layer_curves(marks[1:], wave) | _task_curves(gain)
    if wave == 1:
        curves["alarm/loss_spike"] = ((STEP * 200, 2.72), (STEP * 300, 1.9))
        curves["train/rollbacks"], curves["train/skipped_steps"] = ((STEP * 200, 1.0),), ((STEP * 200, 3.0),)
    for source, share in shares.items():
        curves[f"train/share/{source}"] = tuple(
            (t, share + 0.04 * math.cos(t * wave) * (STEP / t) * (len(shares) > 1)) for t in steps
        )
    return RunData(
        name=name,
        description=description,
        params={"mixture.epochs": "1" if wave == 1 else "4", "training.learning_rate": "0.0003", "seed": "7"},
        plan={
            "tokens": "2.10 M",
            "epochs": "1" if wave == 1 else "4",
            "subset": "all" if wave == 1 else "best 0.52 M by quality",
            "shares": ", ".join(f"{source} {share:.0%}" for source, share in shares.items()),
            "steps": "512 of 4,096 tokens",
            "compute": "5.3e13 FLOPs",
            "effective tokens": "2.10 M" if wave == 1 else "1.87 M",
        },
        shares=shares,
        curves=curves,
        gaps={source: _gap(curves[f"heldout/{source}/loss"]) for source in BASE},
        totals=Totals(tokens=TOKENS, seconds=806.0 + 9 * wave, tokens_per_second=TOKENS / (806 + 9 * wave), mfu=0.412),
        run_id=f"{wave}" * 32,
    )


def _layer_curves(marks: list[int], wave: int) -> dict[str, Curve]:
    """Twelve layers; the lowest ones move ahead, least so in the third run."""
    moved = {
        i: tuple((t, 0.02 * math.sqrt(t / TOKENS) * (1 + 0.5 / wave * (1 - i / 6))) for t in marks) for i in range(12)
    }
    bottom, top = (
        tuple((t, sum(moved[i][at][1] for i in layers) / 5) for at, t in enumerate(marks))
        for layers in (range(5), range(7, 12))
    )
    ratio = tuple((t, low / high * (1 + 0.2 / (1 + t / STEP))) for (t, low), (_, high) in zip(bottom, top, strict=True))
    ends = {"update/bottom": bottom, "update/top": top, "update/ratio": ratio}
    return {f"update/layer_{i}": curve for i, curve in moved.items()} | ends


def _task_curves(gain: float) -> dict[str, Curve]:
    """A group and a task at five checkpoints."""
    at = range(0, TOKENS + 1, TOKENS // 4)
    curves: dict[str, Curve] = {}
    for name, share in (("medical", 0.1), ("pubmedqa", 0.05)):
        curves[f"task/{name}/accuracy"] = tuple((t, 0.31 + share * gain * t / TOKENS) for t in at)
        curves[f"task/{name}/accuracy_stderr"] = tuple((t, 0.012) for t in at)
    return curves


def _noise(t: int) -> float:
    return math.sin(t * 12.9898) * 43758.5453 % 1 - 0.5


def _shape(x: float, source: str, gain: float, bump: float, loss: float, wave: int) -> float:
    start = bump * 40 * x * math.exp(1 - 40 * x)
    if source == "medical":
        return start * 3 - gain * math.pow(x, 0.7)
    weight = {"wikipedia": 0.8, "documentation": 0.55, "code": 1.3}[source]
    return weight * (start + loss * math.pow(x, 0.55) - 0.06 * (wave == 3) * math.sqrt(x))


def _gap(curve: Curve) -> Gap:
    base = curve[0][1]
    worst = max(range(len(curve)), key=lambda i: curve[i][1])
    best = min(range(len(curve)), key=lambda i: curve[i][1])
    back = next((t for t, value in curve[worst:] if value <= base), None)
    pairs = itertools.pairwise(curve)
    area = sum((max(0.0, a[1] - base) + max(0.0, b[1] - base)) / 2 * (b[0] - a[0]) for a, b in pairs)
    return Gap(
        depth=max(0.0, curve[worst][1] - base),
        area=area,
        recovery_tokens=back,
        peak=curve[best][1],
        tokens_to_peak=curve[best][0],
        final=curve[-1][1],
        forgetting=curve[-1][1] - base,
    )
