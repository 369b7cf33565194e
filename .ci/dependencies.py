#!/usr/bin/env python3
"""What crates may depend on: the arrows of ARCHITECTURE.md, and the lists of deny.toml.

Building cargo-deny takes longer than all that is checked here, so that licences, bans and sources are read
from `cargo tree` and Cargo.lock; advisories need a database and are left to cargo-deny in the workflow.
(`cargo metadata` is not asked: it lists optional crates that only a weak feature names, and nobody builds.)

usage, in the root of the workspace: dependencies.py deny.toml
"""

import re
import subprocess
import sys
import tomllib

# Which crate must not reach which, through normal and build dependencies; dev-dependencies where `dev` is set.
ARROWS = [
    # The proxy knows no Kubernetes: it can be tested, read and reused without one.
    {"from": "hale-dataplane", "never": {"kube", "kube-client", "kube-core", "k8s-openapi", "hale-crds", "hale"}},
    # What users declare depends on nothing that acts on it.
    {"from": "hale-crds", "never": {"hale-dataplane", "hale"}},
    # The whole product is tested from outside.
    {"from": "hale-e2e", "never": {"hale-dataplane", "hale"}, "dev": True},
]


class Expression:
    """An SPDX expression, asked whether a list of licences satisfies it."""

    def __init__(self, text):
        # Old manifests write OR as a slash.
        self.tokens = re.findall(r"[()]|[^\s()]+", text.replace("/", " OR "))
        self.at = 0

    def allowed_by(self, licences):
        result = self._any(licences)
        return result and self.at == len(self.tokens)

    def _take(self, token):
        if self.at < len(self.tokens) and self.tokens[self.at] == token:
            self.at += 1
            return True
        return False

    def _any(self, licences):
        result = self._all(licences)
        while self._take("OR"):
            right = self._all(licences)
            result = result or right
        return result

    def _all(self, licences):
        result = self._one(licences)
        while self._take("AND"):
            right = self._one(licences)
            result = result and right
        return result

    def _one(self, licences):
        if self._take("("):
            result = self._any(licences)
            return self._take(")") and result
        name = self.tokens[self.at]
        self.at += 1
        if self._take("WITH"):
            name += " WITH " + self.tokens[self.at]
            self.at += 1
        return name in licences


def tree(*options):
    """What cargo builds: {(name, version): licence}."""
    command = ["cargo", "tree", "--locked", "--prefix=none", "--format={p}\t{l}", *options]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = {}
    for line in filter(None, lines):
        package, licence = line.split("\t")
        name, version = package.split()[:2]
        found[name, version.lstrip("v")] = licence.removesuffix(" (*)")
    return found


def main():
    with open(sys.argv[1], "rb") as file:
        rules = tomllib.load(file)
    with open("Cargo.lock", "rb") as file:
        locked = tomllib.load(file)["package"]
    wrong = []

    for arrow in ARROWS:
        edges = "normal,build,dev" if arrow.get("dev") else "normal,build"
        inside = {name for name, _ in tree("--package", arrow["from"], "--edges", edges)}
        for name in sorted(inside & arrow["never"]):
            wrong.append(f"{arrow['from']} must not depend on {name}")

    allowed = set(rules["licenses"]["allow"])
    banned = {ban["crate"]: ban["reason"] for ban in rules["bans"]["deny"]}
    everything = {}
    for target in rules["graph"]["targets"]:
        everything |= tree("--workspace", "--all-features", "--edges", "normal,build,dev", "--target", target)
    for (name, version), licence in sorted(everything.items()):
        if name in banned:
            wrong.append(f"{name} {version} is banned: {banned[name]}")
        if not Expression(licence or "none").allowed_by(allowed):
            wrong.append(f"{name} {version} has licence {licence!r}, which deny.toml does not allow")

    registries = {f"registry+{url}" for url in rules["sources"]["allow-registry"]}
    for package in locked:
        # Members of the workspace have no source.
        if package.get("source", next(iter(registries))) not in registries:
            wrong.append(f"{package['name']} {package['version']} comes from {package['source']}")

    for line in wrong:
        print(line)
    print(f"{len(everything)} packages, {len(ARROWS)} arrows: {len(wrong)} wrong")
    sys.exit(bool(wrong))


main()
