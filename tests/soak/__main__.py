"""Kill runs at random and check how they end: ``python -m tests.soak [--kills 20] [--seed N]``; exit 1 if one differs."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.soak.kills import KINDS, Landed, draw, run_trial
from tests.soak.nodes import cluster
from tests.soak.runs import Bench


def main() -> None:
    """Draw, run, print one line a kill and the tally."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Kill runs at random steps.")
    parser.add_argument("--kills", type=int, default=20, help="how many")
    parser.add_argument("--seed", type=int, help="chooses kinds, settings and steps; absent: a new one")
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, "stop"], default=KINDS, help="what is killed")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster does not stay behind
    print(f"{options.kills} kills, seed {seed}", flush=True)
    done: list[Landed] = []
    with tempfile.TemporaryDirectory(prefix="soak-runs-") as folder, cluster() as nodes:
        bench = Bench(Path(folder))
        for number, planned in enumerate(draw(options.kills, seed, tuple(options.kinds))):
            for landed in run_trial(bench, nodes, planned, Path(folder) / f"killed-{number}"):
                print(_line(landed), flush=True)
                done.append(landed)
            for wrong in done[-1].wrong[:10]:
                print(f"    {wrong}", flush=True)
        nodes.stop()
        left = nodes.left()
    for process in left:
        print(f"outlived its cluster: {process}")
    print(tally(done))
    sys.exit(1 if left or any(landed.wrong for landed in done) else 0)


def tally(done: list[Landed]) -> str:
    """Kills by kind: how many, how many of their runs ended equal, and the seconds until they went on."""
    by_kind: dict[str, list[Landed]] = defaultdict(list)
    for landed in done:
        by_kind[landed.kill.kind].append(landed)
        by_kind["all"].append(landed)
    rows = [f"{'killed':<8}{'kills':>6}{'equal':>7}{'went on after (median, worst)':>32}"]
    for kind in sorted(by_kind, key=lambda kind: (kind == "all", kind)):
        some = by_kind[kind]
        seconds = sorted(landed.seconds for landed in some if landed.seconds is not None)
        waited = f"{seconds[len(seconds) // 2]:.0f} s, {seconds[-1]:.0f} s" if seconds else "-"
        rows.append(f"{kind:<8}{len(some):>6}{sum(not landed.wrong for landed in some):>7}{waited:>32}")
    return "\n".join(rows)


def _line(landed: Landed) -> str:
    waited = "never went on" if landed.seconds is None else f"went on after {landed.seconds:.0f} s"
    setting, end = landed.setting, "differs" if landed.wrong else "equal"
    where = f"ZeRO {setting.stage}, {setting.world} worker(s), step {landed.at_step:>3}"
    return f"{landed.kill.kind:<6} {where}: {waited}, {end}"


if __name__ == "__main__":
    main()
