"""Hale as one of the peers, served from a folder of manifests."""

import json

from harness.peers import HEALTH, HOST, Peer


class Hale(Peer):
    name = "hale"

    def prepare(self, folder, port, backends):
        manifests = folder / "manifests"
        manifests.mkdir(exist_ok=True)
        documents = [HALE_INGRESS, HALE_SERVICE, HALE_POLICY]
        documents += [hale_slice(number, p) for number, p in enumerate(backends)]
        # JSON is YAML.
        (manifests / "bench.yaml").write_text("\n---\n".join(json.dumps(d, indent=1) for d in documents))
        ports = ["--http-port", port, "--https-port", 0, "--healthz-port", 0, "--admin-port", 0]
        return [
            *[self.program, "serve", "--manifests", manifests, "--listen-address", "127.0.0.1", *ports],
            *["--workers", 1, "--access-log", folder / "access.log", "--log-level", "warn"],
        ]


def hale_object(api, kind, name, **rest):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "bench"}, **rest}


def hale_slice(number, port):
    found = hale_object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"bench-{number}",
        addressType="IPv4",
        ports=[{"name": "http", "port": port, "protocol": "TCP"}],
        endpoints=[{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    )
    found["metadata"]["labels"] = {"kubernetes.io/service-name": "bench"}
    return found


HALE_INGRESS = hale_object(
    "networking.k8s.io/v1",
    "Ingress",
    "bench",
    spec={
        "ingressClassName": "hale",
        "rules": [
            {
                "host": HOST,
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "bench", "port": {"name": "http"}}},
                        }
                    ]
                },
            }
        ],
    },
)
HALE_SERVICE = hale_object(
    "v1", "Service", "bench", spec={"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
)
HALE_POLICY = hale_object(
    "hale-ingress.io/v1alpha1",
    "UpstreamPolicy",
    "bench",
    spec={
        "targetRefs": [{"group": "", "kind": "Service", "name": "bench"}],
        "healthCheck": {"active": {"http": {"path": HEALTH}, "interval": "5s", "timeout": "2s"}},
        "loadBalancer": {"type": "LeastRequest"},
        # Other proxies have no budget to speak of: without this, it ends while it is shown that all try again.
        "retry": {"attempts": 2, "codes": [502, 503, 504], "budget": {"percent": 20, "minRetries": 1000}},
        "timeouts": {"connect": "1s", "backendRequest": "60s", "idle": "60s"},
    },
)
