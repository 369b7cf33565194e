"""What a run happens in: Hale, its backends and its clients, all of them processes of their own."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from harness import load
from harness.faults.outcome import Outcome
from harness.hale import hale_object
from harness.process import Child, until

HERE = Path(__file__).resolve().parent
HOST = "faults.example"
PORT, HEALTHZ, BACKEND = 8080, 10254, 9000


def check(interval, timeout, unhealthy, healthy):
    """A section `active` for the backends' check."""
    return {
        "http": {"path": "/healthz"},
        "interval": interval,
        "timeout": timeout,
        "unhealthyThreshold": unhealthy,
        "healthyThreshold": healthy,
    }


class Origin:
    """A backend with an address of its own, which can die and come back."""

    def __init__(self, folder, number, options):
        self.folder, self.name = folder, f"origin-{number}"
        self.address = address(number)
        self.log = folder / f"{self.name}.log"
        self.options = {"address": self.address, "port": BACKEND, "log": str(self.log), **options}
        self.child = None

    def start(self):
        command = [sys.executable, HERE / "origin.py", json.dumps(self.options)]
        self.child = Child(self.name, command, self.folder)

    def signal(self, number):
        os.kill(self.child.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.child.process.wait(10)

    def lines(self, kind):
        """Its lines of a kind, split, with the time as a number."""
        found = [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [(float(words[1]), *words[2:]) for words in found if words[0] == kind]

    def wait(self, times=1):
        """Waits until it has begun to listen so many times in all."""
        until(f"{self.name} to listen", 10, lambda: len(self.lines("listen")) >= times)


def address(number):
    return f"10.99.{128 + number // 250}.{number % 250 + 1}"


class Scene:
    """Backends and Hale, started; ends all of them."""

    def __init__(self, hale, folder, origins, spec, peers=None):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.origins = [Origin(folder, n, options) for n, options in enumerate(origins)]
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        self.declare(spec, peers or [origin.address for origin in self.origins])
        ports = ["--http-port", PORT, "--https-port", 0, "--healthz-port", HEALTHZ, "--admin-port", 0]
        where = ["serve", "--manifests", self.manifests, "--listen-address", "127.0.0.1"]
        self.command = [hale, *where, *ports, "--access-log", folder / "access.log"]
        self.hale = self.load = None

    def declare(self, spec, peers):
        policy = {"targetRefs": [{"group": "", "kind": "Service", "name": "faults"}], **spec}
        slices = [endpoint_slice(n, peers[n : n + 100]) for n in range(0, len(peers), 100)]
        documents = [INGRESS, SERVICE, policy_object(policy), *slices]
        # JSON is YAML.
        (self.manifests / "faults.yaml").write_text("\n---\n".join(json.dumps(d, indent=1) for d in documents))

    def __enter__(self):
        try:
            for origin in self.origins:
                origin.start()
            for origin in self.origins:
                origin.wait()
            self.hale = Child("hale", self.command, self.folder)
            until("Hale to serve", 20, self.serves)
            self.refuse_findings()
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for child in [self.load, self.hale, *(origin.child for origin in self.origins)]:
            if child:
                if child.alive():
                    # A backend that is stopped would not hear a request to end.
                    os.kill(child.process.pid, signal.SIGCONT)
                child.end()

    def serves(self):
        self.hale.check()
        return load.get(PORT, HOST)[0] == 200

    def refuse_findings(self):
        """A policy that is not in force would make the run mean something else."""
        said = self.hale.log.read_text(errors="replace")
        if "WARN" in said or "ERROR" in said:
            raise RuntimeError(f"Hale complains:\n{said}")

    def metrics(self):
        return load.get(HEALTHZ, "localhost", "/metrics")[1].decode()

    def begin(self, **plan):
        """Starts the clients; gives the time of their start, about."""
        plan = {"port": PORT, "host": HOST, **plan}
        command = [sys.executable, HERE / "client.py", json.dumps(plan), self.folder / "results"]
        self.load = Child("client", command, self.folder)
        return time.monotonic()

    def finish(self, seconds=120):
        """Waits for the clients and tells what became of the requests."""
        self.load.process.wait(seconds)
        if self.load.process.returncode:
            raise RuntimeError(self.load.log.read_text(errors="replace")[-2000:])
        self.hale.check()
        rows = [json.loads(line) for line in (self.folder / "results").read_text().splitlines()]
        executed = [line for origin in self.origins for line in origin.lines("request")]
        return Outcome(rows, executed)


def sleep_until(moment):
    time.sleep(max(0.0, moment - time.monotonic()))


def endpoint_slice(number, addresses):
    found = hale_object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"faults-{number}",
        addressType="IPv4",
        ports=[{"name": "http", "port": BACKEND, "protocol": "TCP"}],
        endpoints=[{"addresses": [one], "conditions": {"ready": True}} for one in addresses],
    )
    found["metadata"]["labels"] = {"kubernetes.io/service-name": "faults"}
    return found


def policy_object(spec):
    return hale_object("hale-ingress.io/v1alpha1", "UpstreamPolicy", "faults", spec=spec)


BACKEND_REF = {"service": {"name": "faults", "port": {"name": "http"}}}
PATHS = [{"path": "/", "pathType": "Prefix", "backend": BACKEND_REF}]
INGRESS = hale_object(
    "networking.k8s.io/v1",
    "Ingress",
    "faults",
    spec={"ingressClassName": "hale", "rules": [{"host": HOST, "http": {"paths": PATHS}}]},
)
SERVICE = hale_object(
    "v1", "Service", "faults", spec={"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
)
