"""Hale's release binary, and what the figures were measured with."""

import os
import re
import subprocess
from pathlib import Path

from harness.process import output

REPOSITORY = Path(__file__).resolve().parents[2]


def hale():
    subprocess.run(["cargo", "build", "--release", "-p", "hale"], cwd=REPOSITORY, check=True)
    target = os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target"
    return Path(target) / "release/hale"


def version(program):
    commit = output("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty")
    return f"{output(str(program), '--version')} ({commit}, {output('rustc', '--version')})"


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    release = Path("/etc/debian_version")
    return {
        "machine": f"{model.group(1) if model else '?'}, {os.cpu_count()} processors",
        "kernel": os.uname().release,
        "debian": release.read_text().strip() if release.exists() else "?",
    }
