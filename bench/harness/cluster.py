"""An API server with etcd behind it, in namespaces of this process's own, and a client for it.

No kubelet and no controllers: nothing changes but what the benchmark changes.
"""

import http.client
import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import threading
from pathlib import Path

from harness.process import Child, until

NODE = "10.99.0.1"
# Every address in it is this machine's.
ENDPOINTS = "10.99.128.0/17"
INSIDE = "HALE_BENCH_INSIDE"
ETCD = "http://127.0.0.1:2379"


def enter():
    """Starts this program again in new namespaces and exits with its code; returns inside of them.

    The first process of the namespaces dies with this one, and everything in them dies with the first.
    """
    if os.environ.get(INSIDE):
        settle()
        return
    if os.getuid() != 0:
        sys.exit("needs root, for a network namespace with addresses of its own")
    namespaces = ["unshare", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child=KILL"]
    command = ["setpriv", "--pdeathsig", "KILL", "--", *namespaces, "--", sys.executable, *sys.argv]
    sys.exit(subprocess.call(command, env={**os.environ, INSIDE: "1"}))


def settle():
    # Both ends of the pair are here: an address needs an interface, and not every kernel has a dummy one.
    for line in [
        "link set lo up",
        "link add node type veth peer name node-peer",
        f"address add {NODE}/24 dev node",
        "link set node up",
        "link set node-peer up",
        "route add default dev node",
        f"route add local {ENDPOINTS} dev lo",
    ]:
        subprocess.run(["ip", *line.split()], check=True)


def find_programs(folder):
    """The folder with etcd and kube-apiserver: the one given, or the newest that e2e has built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = [folder] if folder else (cache / "hale-e2e").glob("bin-*")
    complete = [f for f in found if f.suffix != ".unfinished" and (f / "kube-apiserver").exists()]
    if not complete:
        sys.exit("no kube-apiserver: `cargo test -p hale-e2e` builds one, or say --programs DIR")
    return max(complete, key=lambda f: f.stat().st_mtime)


class Cluster:
    def __init__(self, programs, folder):
        self.folder = folder
        self.token = secrets.token_hex(16)
        self.local = threading.local()
        self.children = []
        (folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        key = folder / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        certificates = folder / "certificates"
        self.authority = certificates / "apiserver.crt"
        self.start("etcd", programs / "etcd", self.etcd_flags())
        self.start("kube-apiserver", programs / "kube-apiserver", self.api_server_flags(key, certificates))
        until("the API server", 60, self.answers, every=0.2)

    def etcd_flags(self):
        urls = [f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}"]
        # Nobody needs the data after a crash.
        return [f"--data-dir={self.folder}/etcd", *urls, "--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync"]

    def api_server_flags(self, key, certificates):
        return [
            f"--etcd-servers={ETCD}",
            f"--advertise-address={NODE}",
            "--secure-port=6443",
            f"--cert-dir={certificates}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={self.folder}/tokens.csv",
        ]

    def start(self, name, program, flags):
        self.children.append(Child(name, [program, *flags], self.folder))

    def answers(self):
        for child in self.children:
            child.check()
        return self.authority.exists() and self.call("GET", "/readyz", raw=True)[0] == 200

    def kubeconfig(self):
        path = self.folder / "kubeconfig"
        server = {"server": f"https://{NODE}:6443", "certificate-authority": str(self.authority)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "admin"}}],
        }
        path.write_text(json.dumps(config))
        return path

    def connection(self):
        """One for each thread."""
        if getattr(self.local, "connection", None) is None:
            context = ssl.create_default_context(cafile=self.authority)
            self.local.connection = http.client.HTTPSConnection(NODE, 6443, context=context, timeout=30)
        return self.local.connection

    def call(self, method, path, body=None, kind="application/json", raw=False):
        """Status and answer; an answer that is no success is an error unless `raw`."""
        connection = self.connection()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        data = text.encode() if text else None
        try:
            connection.request(method, path, body=data, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.local.connection = None
            connection.close()
            raise OSError(f"{method} {path}: {error!r}") from error
        if raw:
            return answer.status, text
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]}")
        return answer.status, json.loads(text)

    def version(self):
        return self.call("GET", "/version")[1]["gitVersion"]

    def end(self):
        # The API server takes a while to end by itself, and nothing of it is wanted any more.
        for child in reversed(self.children):
            child.process.kill()
            child.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
