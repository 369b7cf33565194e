"""Load on a proxy: wrk's keep-alive requests, and connections that stop half-way through a head."""

import http.client
import os
import re
import socket
import subprocess
import time

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def wrk(program, url, host, seconds, connections, cpus, script=None):
    """Runs wrk and returns its figures; latencies in milliseconds. Any answer but 2xx is an error.

    A script makes the requests by itself, with their hosts."""
    how = ["-s", script] if script else ["-H", f"Host: {host}"]
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *how, url]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus) if cpus else None,
    )
    text = done.stdout
    if done.returncode or "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"wrk {url}: {text}{done.stderr}")
    requests, spent = re.search(r"(\d+) requests in ([\d.]+\w+),", text).groups()
    percentile = {
        int(p): milliseconds(value) for p, value in re.findall(r"^\s+(50|99)%\s+([\d.]+\w+)", text, re.M)
    }
    return {
        "requests": int(requests),
        "rps": int(requests) / milliseconds(spent) * 1e3,
        "p50": percentile[50],
        "p99": percentile[99],
    }


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()
    return float(number) * UNITS[unit]


def get(port, host, path="/", address="127.0.0.1"):
    """One request on a connection of its own: status and body."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def half_open(port, host, count, measure):
    """Opens connections that send half a head and wait; returns what `measure` says before and meanwhile."""
    before = measure()
    open_ones = []
    try:
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port), timeout=5)
            one.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: half".encode())
            open_ones.append(one)
        # The proxy reads at its own pace; a second is enough for all of them and too short for its deadline.
        time.sleep(1)
        meanwhile = measure()
        for one in open_ones:
            one.setblocking(False)
            try:
                if one.recv(1) == b"":
                    raise RuntimeError("a half-open connection was closed: the figure would be too small")
            except BlockingIOError:
                pass
        return before, meanwhile
    finally:
        for one in open_ones:
            one.close()
