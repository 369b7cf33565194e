"""The runs: what is broken, when, and what must be true of the requests meanwhile.

Each run gives rows for the table: what was wanted, what was got, and whether that is good enough.
"""

import random
import signal
import subprocess
import time
from typing import NamedTuple

from harness.faults.outcome import ms, percentile, slowest
from harness.faults.scene import Scene, check, sleep_until

RATE = 300
BOTH = ["GET", "POST"]
RETRY = {"attempts": 2, "codes": [502, 503, 504], "perTryTimeout": "2s"}
TIMEOUTS = {"connect": "1s", "backendRequest": "60s"}


class Row(NamedTuple):
    run: str
    wanted: str
    got: str
    good: bool


def spec(active=None, **rest):
    health = {"healthCheck": {"active": active}} if active else {}
    return {**health, "retry": RETRY, "timeouts": TIMEOUTS, **rest}


def none_failed_none_twice(run, outcome, note=""):
    good = not outcome.failed() and not outcome.twice("POST")
    got = "; ".join(part for part in [outcome.counts(), note, outcome.why()] if part)
    return Row(run, "0 fail, 0 POST twice", got, good)


def kill9(hale, folder, options):
    """One of three is killed and started again a second later, each in turn.

    Once as clients usually are, and once with clients that say of each request that it may be sent again.
    """
    return [one_kill9(hale, folder / "plain"), one_kill9(hale, folder / "keyed", keyed=True)]


def one_kill9(hale, folder, keyed=False):
    retry = {**RETRY, "nonIdempotent": "WithIdempotencyKey"} if keyed else RETRY
    with Scene(hale, folder, [{}] * 3, spec(check("1s", "500ms", 2, 1), retry=retry)) as scene:
        seconds = 30
        began = scene.begin(rate=RATE, seconds=seconds, methods=BOTH, keyed=keyed)
        deaths = []
        while (len(deaths) + 1) * 3 < seconds:
            victim = scene.origins[len(deaths) % 3]
            # Without chance, kills and requests would keep step, and meet always or never.
            sleep_until(began + len(deaths) * 3 + random.uniform(1.5, 2.0))
            moment = time.monotonic()
            victim.kill()
            deaths.append((moment, time.monotonic()))
            sleep_until(moment + 1)
            victim.start()
        outcome = scene.finish()
    text = f"one of 3 killed -9 every 3 s ({len(deaths)} times), {RATE} req/s, GET and POST of 1 KiB"
    if keyed:
        text += " with Idempotency-Key"
    note = f"slowest {ms(slowest(outcome.rows))}"
    # A POST that was under way then was sent and got no answer: nobody can know whether it was executed.
    hit = sum(any(row.due <= end and begin <= row.done for begin, end in deaths) for row in outcome.failed())
    if hit:
        note += f"; {hit} of the failed were under way while a backend died"
    return none_failed_none_twice(text, outcome, note)


BALANCERS = ["LeastRequest", "RoundRobin"]


def blackhole(hale, folder, options):
    """Packets from and to one backend vanish for ten seconds, those of open connections, too.

    With LeastRequest a peer that does not answer is not picked while others are idle; with RoundRobin a third of
    the requests goes on meeting it, until it is found failing.
    """
    return [one_blackhole(hale, folder / balancer, balancer) for balancer in BALANCERS]


def one_blackhole(hale, folder, balancer):
    policy = spec(check("1s", "500ms", 2, 1), loadBalancer={"type": balancer})
    with Scene(hale, folder, [{}] * 3, policy) as scene:
        began = scene.begin(rate=RATE, seconds=20, methods=["GET"])
        sleep_until(began + 5)
        lost = time.monotonic()
        with Blackhole(scene.origins[0].address):
            sleep_until(began + 15)
        outcome = scene.finish()
    usual = percentile([row for row in outcome.rows if row.due < lost - 1], 0.99)
    slow = [row for row in outcome.rows if row.due > lost - 1 and row.took > usual + 0.3]
    back = normal_again(outcome.rows, min(row.done for row in slow), usual) if slow else 0.0
    got = f"p99 of 2 s usual again {back:.1f} s after the first timeout" if slow else "no request met a timeout"
    good = not outcome.failed() and back <= 2
    got = f"{outcome.counts()}; {got} ({len(slow)} slow, the slowest {ms(slowest(outcome.rows))}; usual p99 {ms(usual)})"
    wanted = "0 fail; p99 over 2 s usual again within 2 s of the first timeout"
    text = f"one of 3 black-holed for 10 s, {RATE} req/s, GET, {balancer}"
    return Row(text, wanted, "; ".join(part for part in [got, outcome.why()] if part), good)


def normal_again(rows, first, usual):
    """Seconds from `first` until all windows of 2 s that begin then or later have a usual p99."""
    limit = max(3 * usual, usual + 0.05)
    last, begin = 0.0, first
    while begin + 2 <= rows[-1].due:
        window = [row for row in rows if begin <= row.due < begin + 2]
        begin += 0.1
        if percentile(window, 0.99) > limit:
            last = begin - first
    return last


class Blackhole:
    """Drops what comes from and goes to an address, silently."""

    def __init__(self, address):
        self.rules = "\n".join(
            [
                "table ip faults {",
                "chain input {",
                "type filter hook input priority 0;",
                f"ip daddr {address} drop",
                f"ip saddr {address} drop",
                "}",
                "}",
            ]
        )

    def __enter__(self):
        subprocess.run(["nft", "-f", "-"], input=self.rules, text=True, check=True)

    def __exit__(self, *_):
        subprocess.run(["nft", "delete", "table", "ip", "faults"], check=True)


def idle_close(hale, folder, options):
    """Backends close what was idle for just as long as the clients pause; the pauses sweep over that moment."""
    rows = []
    for method in BOTH:
        place = folder / method
        with Scene(hale, place, [{"idle": 0.5}] * 3, spec()) as scene:
            scene.begin(bursts=40, size=60, pause=0.5, sweep=0.004, methods=[method])
            outcome = scene.finish()
        text = f"backends that close idle connections just as a burst comes: 40 bursts of 60 {method}"
        rows.append(none_failed_none_twice(text, outcome))
    return rows


def sigstop(hale, folder, options):
    """One of three accepts and never answers, for ten seconds; then it wakes and finds what was sent to it."""
    return [row for balancer in BALANCERS for row in one_sigstop(hale, folder / balancer, balancer)]


def one_sigstop(hale, folder, balancer):
    # Found silent at most 550 + 500 ms after it stopped, which is when a check had just passed.
    policy = spec(check("500ms", "500ms", 2, 1), loadBalancer={"type": balancer})
    with Scene(hale, folder, [{}] * 3, policy) as scene:
        began = scene.begin(rate=RATE, seconds=20, methods=BOTH)
        sleep_until(began + 4 + random.uniform(0, 0.5))
        scene.origins[0].signal(signal.SIGSTOP)
        sleep_until(began + 14)
        scene.origins[0].signal(signal.SIGCONT)
        outcome = scene.finish()
    gets, posts = outcome.of("GET"), outcome.of("POST")
    text = f"one of 3 stopped (SIGSTOP) for 10 s, check every 500 ms × 2, {RATE} req/s, {balancer}"
    failed, late = outcome.failed("GET"), slowest(gets)
    waited = sum(row.took > 0.25 for row in gets)
    got = f"{len(failed)} of {len(gets)} fail; {waited} slower than 250 ms, the slowest {ms(late)} {outcome.stalls()}"
    twice, lost = outcome.twice("POST"), outcome.failed("POST")
    post = f"{len(twice)} twice; {len(lost)} of {len(posts)} fail, slowest {ms(slowest(posts))}; {outcome.why()}"
    return [
        Row(f"{text}: GET", "0 fail, none slower than 1.2 s", got, not failed and late <= 1.2),
        Row(f"{text}: POST", "0 twice", post.rstrip("; "), not twice),
    ]


def all_down(hale, folder, options):
    """All three die at once; they come back one after the other."""
    interval = 1.0
    with Scene(hale, folder, [{}] * 3, spec(check("1s", "500ms", 2, 1))) as scene:
        began = scene.begin(rate=RATE, seconds=12, methods=["GET"])
        sleep_until(began + 4)
        for origin in scene.origins:
            origin.kill()
        down = time.monotonic()
        sleep_until(down + 3)
        scene.origins[0].start()
        scene.origins[0].wait(2)
        back = scene.origins[0].lines("listen")[1][0]
        for origin in scene.origins[1:]:
            sleep_until(time.monotonic() + interval)
            origin.start()
        outcome = scene.finish()
    mute = [row for row in outcome.failed() if row.status != 503 or not row.reason]
    first = min(row.done for row in outcome.rows if row.done > back and row.status == 200) - back
    later = [row for row in outcome.failed() if row.due > back + first]
    got = (
        f"{len(outcome.failed())} of {len(outcome.rows)} fail while all are down, {len(mute)} of them unexplained; "
        f"first 200 {ms(first)} after the first is back, {len(later)} fail after that; {outcome.why()}"
    )
    good = not mute and first <= interval and not later
    wanted = "explained 503s meanwhile; first 200 within a check interval (1 s) of the first one's return, then 0 fail"
    return [Row(f"all 3 down for 3 s and back, {RATE} req/s", wanted, got, good)]


PASSIVE = {"consecutive5xx": 3, "errorPercent": {"threshold": 50, "minRequests": 20, "window": "10s"}}


def half500(hale, folder, options):
    """One of three answers 500 to every second request, by chance; its check passes all the time."""
    health = {"active": check("1s", "500ms", 2, 1), "passive": {**PASSIVE, "baseEjection": "10s"}}
    with Scene(hale, folder, [{"fail": 0.5}, {}, {}], {**spec(), "healthCheck": health}) as scene:
        began = scene.begin(rate=RATE, seconds=30, methods=["GET"])
        # The metric that the run `healthy` relies on has to tell of this one.
        _, told = looks_for_ejected(scene, began + 30)
        outcome = scene.finish()
        answers = [(at, int(status)) for at, _, _, status in scene.origins[0].lines("request")]
    seen = sum(row.status == 500 for row in outcome.rows)
    others = [row for row in outcome.failed() if row.status != 500]
    out = ejected_after(answers, outcome.rows[-1].due)
    took = f"ejected {ms(out)} after the threshold" if out is not None else "not ejected"
    took += "" if told else ", and no metric said so"
    got = f"{took}; {seen} of {len(outcome.rows)} ({seen / len(outcome.rows):.2%}) see a 500"
    got += f", {len(others)} fail otherwise: {outcome.why()}" if others else ""
    good = told and out is not None and out <= 1 and seen <= 0.01 * len(outcome.rows) and not others
    wanted = "ejected within 1 s of the threshold; ≤ 1 % see a 500"
    return [Row(f"one of 3 answers 500 half of the time, {RATE} req/s, 30 s", wanted, got, good)]


def ejected_after(answers, end):
    """Seconds from when a rule of PASSIVE is met to the last request before a silence of 3 s; None without one."""
    threshold = None
    for number, (at, _) in enumerate(answers):
        if threshold is None and met(answers[: number + 1]):
            threshold = at
        after = answers[number + 1][0] if number + 1 < len(answers) else end
        if threshold is not None and after - at > 3:
            return at - threshold
    return None


def met(answers):
    """Whether the last answers are three 500 in a row, or half of at least 20 within 10 s."""
    recent = [status for at, status in answers if at > answers[-1][0] - 10]
    errors = sum(status == 500 for status in recent)
    in_a_row = len(recent) >= 3 and all(status == 500 for status in recent[-3:])
    return in_a_row or (len(recent) >= 20 and errors * 2 >= len(recent))


def healthy(hale, folder, options):
    """Nothing is wrong but what always is: one answer in 300 is a 500, from any backend."""
    health = {"active": check("1s", "500ms", 2, 1), "passive": PASSIVE}
    with Scene(hale, folder, [{"fail": 1 / 300}] * 3, {**spec(), "healthCheck": health}) as scene:
        began = scene.begin(rate=RATE, seconds=options.minutes * 60, methods=BOTH)
        looks, ejected = looks_for_ejected(scene, began + options.minutes * 60)
        outcome = scene.finish()
    others = [row for row in outcome.failed() if row.status != 500]
    got = f"seen ejected at {ejected} of {looks} looks; {len(outcome.rows)} requests, {len(others)} fail otherwise"
    text = f"{options.minutes:g} minutes of usual load, {RATE} req/s, 1 in 300 answered with a 500"
    return [Row(text, "0 ejected", got, not ejected and not others)]


def looks_for_ejected(scene, end):
    """Looks at the metrics twice a second: how often, and how often a peer was ejected."""
    looks = seen = 0
    while time.monotonic() < end:
        time.sleep(0.5)
        looks += 1
        peers = [line for line in scene.metrics().splitlines() if line.startswith("hale_peers{")]
        seen += any('reason="Ejected"' in line and not line.endswith(" 0") for line in peers)
    return looks, seen
