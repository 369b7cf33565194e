"""A thousand peers, checked: whether the checks are spread evenly, and what they cost."""

import math
import statistics
import time
from collections import Counter

from harness.faults.runs import Row, spec
from harness.faults.scene import Scene, address, check

PEERS = 1000
INTERVAL = 5
BIN = 0.1


def probes(hale, folder, options):
    """All peers are one process that listens on all addresses and notes when each check arrived."""
    few = measure(hale, folder / "few", 10, 10)
    many = measure(hale, folder / "many", PEERS, 30)
    peer = (many["rss"] - few["rss"]) / (PEERS - 10)
    text = f"{PEERS} peers checked every {INTERVAL} s"
    got = (
        f"{many['checks'] / many['seconds']:.0f} checks/s; per {BIN * 1e3:.0f} ms the coefficient of variation is "
        f"{many['cv']:.2f}, by pure chance {many['poisson']:.2f}; first checks of all within {many['first']:.1f} s; "
        f"{many['silent']} peers not checked in time; {many['connections'] / many['checks']:.2f} connections for each check"
    )
    return [
        Row(text, "starts spread as evenly as by chance", got, many["cv"] <= 1.25 * many["poisson"] and not many["silent"]),
        Row(f"{text}: processor", "≤ 2 % of a core", f"{many['cpu']:.2%} of a core", many["cpu"] <= 0.02),
        Row(f"{text}: memory", "reported", f"{peer:.1f} KiB for each peer (RSS {many['rss']} KiB in all)", True),
    ]


def measure(hale, folder, peers, seconds):
    options = {"address": "0.0.0.0", "log_connections": True}
    addresses = [address(number) for number in range(peers)]
    with Scene(hale, folder, [options], spec(check(f"{INTERVAL}s", "2s", 3, 2)), addresses) as scene:
        time.sleep(2 * INTERVAL)
        cpu, start = scene.hale.cpu(), time.monotonic()
        time.sleep(seconds)
        cpu, end = scene.hale.cpu() - cpu, time.monotonic()
        rss, _ = scene.hale.memory()
        checks = scene.origins[0].lines("check")
        connections = len([line for line in scene.origins[0].lines("connection") if start <= line[0] < end])
    late = [at for at, _ in checks if start <= at < end]
    # By then each must have come up again, jitter included.
    recent = {where for at, where in checks if at > end - 1.5 * INTERVAL}
    return {
        "checks": len(late),
        "seconds": end - start,
        "cv": variation(late, start, end),
        "first": first_checks(checks),
        "poisson": 1 / math.sqrt(len(late) / (end - start) * BIN),
        "silent": peers - len(recent),
        "connections": connections,
        "cpu": cpu / (end - start),
        "rss": rss,
    }


def variation(times, start, end):
    """Of the counts in bins: standard deviation by mean."""
    bins = int((end - start) / BIN)
    counts = Counter(int((at - start) / BIN) for at in times)
    found = [counts[number] for number in range(bins)]
    return statistics.pstdev(found) / max(statistics.mean(found), 1e-9)


def first_checks(checks):
    """Seconds between the first checks of the first peer and of the last one."""
    seen = {}
    for at, where in checks:
        seen.setdefault(where, at)
    return max(seen.values()) - min(seen.values())
