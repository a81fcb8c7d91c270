"""Tokens/s and MFU on one GPU: ``python -m benchmarks.gpu``; ``--smoke`` runs the same code with a tiny model on a CPU.

Steady at ZeRO 1, 2 and 3 under Ray Train against plain PyTorch with torch.compile on the same card, for Llama-architecture
models of 1.1 B and 135 M parameters at sequence length 2,048 in bf16. Each case is a process of its own; its row is kept
in ``rows.json`` as soon as it is there, and the same command goes on with what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_cases import MODELS, WARM_UP, Case
from benchmarks.harness import RESULTS, ROOT, Benchmark, Measured, read_results, result, rounded, write_result
from benchmarks.table import refresh
from ground.files import canonical_json, write_atomic

MAIN_MODEL = "1.1b"
_STAGES = (1, 2, 3)
_STEPS = WARM_UP + 21
_CASE_SECONDS = 400.0
_ROWS = "rows.json"
_NO_MEMORY = ("OutOfMemoryError", "out of memory")


def cases(models: Sequence[str], stages: Sequence[int], steps: int, *, compiled: Sequence[bool]) -> list[Case]:
    """All cases, those that the goals speak of first."""
    found = []
    for model in models:
        size = MODELS[model].micro_batch
        found += [Case(model, "plain", 0, compiles, size, steps) for compiles in compiled[:1]]
        found += [Case(model, "steady", stage, compiles, size, steps) for compiles in compiled for stage in stages]
    return found


def measure_all(wanted: Sequence[Case], folder: Path, *, via: str, seconds: float) -> list[dict[str, Any]]:
    """Measure what has no row in ``folder`` yet.

    Args:
        via: ``ray``, ``core`` or ``auto``: Ray Train, and the core alone where that fails.
        seconds: begin no case that would hardly end within this time.

    Returns:
        All rows of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = _read_rows(folder)
    end, longest = time.monotonic() + seconds, 0.0
    for case in wanted:
        if any((row["model"], row["label"]) == (case.model, case.label) for row in rows):
            continue
        left = end - time.monotonic()
        if left < longest:
            print(f"no time left for {case.model}, {case.label}: run the same command again", flush=True)
            continue
        started = time.monotonic()
        row = _with_fallbacks(case, folder, via, min(left, _CASE_SECONDS))
        longest = max(longest, time.monotonic() - started)
        rows.append(row)
        write_atomic(folder / _ROWS, canonical_json({"rows": rows}))
        print(line(row, rows), flush=True)
    return rows


def line(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """One row of the table."""
    name = f"{row['model']:<6} {row['label']:<34}"
    if "error" in row:
        return f"{name} {row['error']}"
    mfu = "-" if row["mfu"] is None else f"{row['mfu']:.1%}"
    ratio = over_plain(row, rows)
    over = "-" if ratio is None else f"{ratio:.3f}x plain"
    micro = f"micro-batch {row['micro_batch']}"
    return f"{name} {row['tokens_per_s']:>12,.0f} tokens/s  MFU {mfu:>6}  {over:<12} {micro}, {row['via']}"


def over_plain(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float | None:
    """Speed over the plain loop's with the same model; None where there is none."""
    plain = [r for r in rows if (r["model"], r["program"]) == (row["model"], "plain") and "error" not in r]
    return row["tokens_per_s"] / plain[0]["tokens_per_s"] if plain else None


def summary(rows: Sequence[dict[str, Any]]) -> Measured | None:
    """The best MFU of Steady at 1.1 B; None before it is measured."""
    good = [row for row in rows if "error" not in row]
    ours = [row for row in good if row["program"] == "steady" and row["model"] == MAIN_MODEL and row["mfu"] is not None]
    if not ours:
        return None
    best = max(ours, key=lambda row: row["mfu"])
    plain = [row for row in good if row["program"] == "plain" and row["model"] == MAIN_MODEL]
    baseline = {"name": "plain PyTorch, compiled", "value": plain[0]["tokens_per_s"], "unit": "tokens/s"}
    details = {
        "best": best["label"],
        "card": best["device"],
        "rows": [r | {"over_plain": over_plain(r, good)} for r in good],
    }
    return Measured(best["mfu"], baseline if plain else None, details)


def _with_fallbacks(case: Case, folder: Path, via: str, seconds: float) -> dict[str, Any]:
    """The case's row: with half the micro-batch where memory ran out, without Ray where that failed."""
    case = dataclasses.replace(case, via="core" if via == "core" or case.program == "plain" else "ray")
    end = time.monotonic() + seconds
    while True:
        row, log = _one(case, folder, end - time.monotonic())
        if row is not None:
            return row
        if any(word in log for word in _NO_MEMORY) and case.micro_batch > 1:
            case = dataclasses.replace(case, micro_batch=case.micro_batch // 2)
        elif via == "auto" and case.via == "ray":
            case = dataclasses.replace(case, via="core")
        else:
            lines = [text for text in log.splitlines() if text.strip()]
            error = lines[-1][:200] if lines else "no output"
            return dataclasses.asdict(case) | {"label": case.label, "error": error}


def _one(case: Case, folder: Path, seconds: float) -> tuple[dict[str, Any] | None, str]:
    """One attempt in a process group of its own: its row, or what it said."""
    log = folder / f"{case.model}-{case.program}-{case.stage}-{'compiled' if case.compile else 'eager'}-{case.via}.log"
    with tempfile.TemporaryDirectory() as scratch:
        given, answer = Path(scratch) / "case.json", Path(scratch) / "row.json"
        given.write_text(json.dumps(dataclasses.asdict(case)))
        command = [sys.executable, "-m", "benchmarks.gpu_cases", str(given), str(answer)]
        paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
            try:
                process.wait(max(1.0, seconds))
            except subprocess.TimeoutExpired:
                output.write(f"\nnot done within {seconds:.0f} s\n".encode())
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if process.returncode == 0:
            row: dict[str, Any] = json.loads(answer.read_text())
            return row, ""
    return None, log.read_text(errors="replace")


def _read_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows that are there; failed ones are tried again."""
    path = folder / _ROWS
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return [row for row in rows if "error" not in row]


def run() -> Measured:
    """All cases, as part of ``python -m benchmarks`` on a machine with a GPU."""
    wanted = cases(("1.1b", "135m"), _STAGES, _STEPS, compiled=(True, False))
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure_all(wanted, Path(scratch), via="auto", seconds=float("inf"))
    found = summary(rows)
    if found is None:
        raise RuntimeError("\n".join(line(row, rows) for row in rows))
    return found


def main(arguments: Sequence[str]) -> int:
    """The command. Returns its exit code: 1 when a case failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=BENCHMARK.measures)
    parser.add_argument("--models", default="1.1b,135m", help="of 1.1b, 135m")
    parser.add_argument("--stages", default="1,2,3", help="ZeRO stages")
    parser.add_argument("--steps", type=int, default=_STEPS, help=f"of each case, {WARM_UP} of them to warm up")
    parser.add_argument(
        "--via", choices=("auto", "ray", "core"), default="auto", help="Ray Train or Steady's core alone"
    )
    parser.add_argument("--seconds", type=float, default=560, help="begin nothing that would end later")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu", help="folder of rows.json, logs and gpu.json")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, few steps, nothing compiled; needs no GPU")
    options = parser.parse_args(arguments)
    if not options.smoke and shutil.which("nvidia-smi") is None:
        print("there is no GPU here; --smoke runs the same code with a tiny model", file=sys.stderr)
        return 2
    stages = [int(stage) for stage in options.stages.split(",")]
    if options.smoke:
        wanted = cases(["smoke"], stages, WARM_UP + 3, compiled=(False,))
    else:
        wanted = cases(options.models.split(","), stages, options.steps, compiled=(True, False))
    load = os.getloadavg()[0]
    rows = measure_all(wanted, options.out, via=options.via, seconds=options.seconds)
    print("\n" + "\n".join(line(row, rows) for row in rows))
    if (found := summary(rows)) is not None:
        kept = Measured(rounded(found.value), rounded(found.baseline), rounded(found.details))
        write_result(result(BENCHMARK, kept, load=load), options.out)
        if options.out == RESULTS / "gpu":
            write_result(result(BENCHMARK, kept, load=load))
            refresh(read_results())
    return int(any("error" in row for row in rows))


BENCHMARK = Benchmark(
    name="gpu",
    unit="MFU",
    goal=0.5,
    higher_is_better=True,
    measures="model FLOPs utilisation of Steady for a Llama of 1.1 B parameters (sequence length 2,048, bf16) on one GPU, the "
    "best of ZeRO 1, 2 and 3 under Ray Train; tokens/s of every case, those of a 135 M model, and their ratios to plain "
    "PyTorch with torch.compile on the same card in the details.",
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
