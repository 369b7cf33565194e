"""Child processes: started pinned, measured from /proc, ended by their id.

Every child is told by the kernel to die with this one, so an interrupted run leaves nothing behind.
"""

import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Child:
    """A program with all processes that it starts."""

    def __init__(self, name, command, folder, cpus=None, env=None):
        self.name = name
        self.log = Path(folder) / f"{name}.out"

        def prepare():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if cpus:
                os.sched_setaffinity(0, cpus)

        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=prepare,
                env={**os.environ, **(env or {})},
            )

    def alive(self):
        return self.process.poll() is None

    def check(self):
        if not self.alive():
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{tail}")

    def pids(self):
        """The program and its descendants."""
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    children = Path(f"/proc/{pid}/task/{task}/children").read_text()
                    todo += [int(child) for child in children.split()]
            except FileNotFoundError:
                pass
        return found

    def cpu(self):
        """Seconds of processor time so far, of all processes and all their threads."""
        ticks = 0
        for pid in self.pids():
            # The name in brackets may hold anything; what counts comes after it.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def memory(self):
        """KiB: resident (a page shared by two processes counts twice) and proportional."""
        rss = pss = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    rss += int(line.split()[1])
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1])
        return rss, pss

    def peak(self):
        """KiB that were resident at most, of the first process."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        return 0

    def end(self, patience=10):
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                for pid in reversed(self.pids()):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                self.process.wait(patience)


def until(what, seconds, ask, every=0.02):
    """Asks until the answer is true; errors of the network are a no. Returns the answer."""
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            answer = ask()
            if answer:
                return answer
            last = answer
        except OSError as error:
            last = error
        time.sleep(every)
    raise RuntimeError(f"waited {seconds} s for {what}: {last!r}")


def free_ports(count, address="127.0.0.1"):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((address, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def output(*command):
    """What a command prints on either stream, without the line's end; empty if there is no such command."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
