"""The objects of the big cluster, as their controllers would write them."""

import ipaddress
import uuid

from harness.cluster import ENDPOINTS

NAMESPACES = 20
# Services of one endpoint each: a change there shows in the very next answer.
SINGLE = 100
PORT = 8080

BASE = int(ipaddress.ip_network(ENDPOINTS).network_address)


def host(number):
    return f"app-{number:04}.bench.example"


def name(number):
    return f"app-{number:04}"


def namespace(number):
    return f"bench-{number % NAMESPACES:02}"


def metadata(number, **more):
    return {"name": name(number), "namespace": namespace(number), **more}


def address(number):
    """The number-th endpoint's address."""
    return str(ipaddress.ip_address(BASE + 1 + number))


def layout(services, endpoints):
    """For each Service the numbers of its endpoints: the first ones have one each, the others share the rest."""
    many, left = services - SINGLE, endpoints - SINGLE
    sizes = [1] * SINGLE + [left // many + (1 if n < left % many else 0) for n in range(many)]
    found, at = [], 0
    for size in sizes:
        found.append(list(range(at, at + size)))
        at += size
    return found


def service(number):
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(number, labels={"app": name(number)}),
        "spec": {"selector": {"app": name(number)}, "ports": ports},
    }


def ingress(number):
    backend = {"service": {"name": name(number), "port": {"name": "http"}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata(number),
        "spec": {"ingressClassName": "hale", "rules": [{"host": host(number), "http": {"paths": [path]}}]},
    }


def endpoint(service_number, number):
    pod = f"{name(service_number)}-7d9f5c6b8-{number:05}"
    return {
        "addresses": [address(number)],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": f"node-{number % 50}",
        "targetRef": {
            "kind": "Pod",
            "namespace": namespace(service_number),
            "name": pod,
            "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, pod)),
        },
    }


def slice_(number, endpoints):
    labels = {
        "kubernetes.io/service-name": name(number),
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata(number, labels=labels),
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
        "endpoints": [endpoint(number, one) for one in endpoints],
    }


def policy(number, interval):
    return {
        "apiVersion": "hale-ingress.io/v1alpha1",
        "kind": "UpstreamPolicy",
        "metadata": metadata(number),
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": name(number)}],
            "healthCheck": {"active": {"http": {"path": "/healthz"}, "interval": interval, "timeout": "2s"}},
            "retry": {"attempts": 2},
        },
    }


def path(found):
    """Where an object is created."""
    version, kind = found["apiVersion"], found["kind"].lower()
    plural = {"ingress": "ingresses", "upstreampolicy": "upstreampolicies"}.get(kind, kind + "s")
    root = "/api/" if version == "v1" else "/apis/"
    return f"{root}{version}/namespaces/{found['metadata']['namespace']}/{plural}"
