#!/usr/bin/env python3
"""Writes one strict JSON schema per kind, for kubeconform.

The kinds of Kubernetes come from the OpenAPI document inside the k8s.io/kubernetes Go module, so that no
other server than the Go proxy is needed and the version is fixed by it; our own kind comes from its CRD.

usage: schemas.py OUT_DIR SWAGGER_JSON
       schemas.py --crd OUT_DIR CRD_YAML...     into a folder that the former has filled
"""

import json
import pathlib
import sys

import yaml

METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

# What OpenAPI says in words and JSON schema cannot know: these are written as a string or a number.
LOOSE = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["integer", "string"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["number", "string"]},
}


def strict(node):
    """A copy of a schema that refuses properties it does not name."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key == "properties":
            # Its keys are names of fields, one of which may well be called `description`.
            out[key] = {name: strict(field) for name, field in value.items()}
        elif key not in ("description", "default", "format") and not key.startswith("x-kubernetes"):
            out[key] = strict(value)
    if node.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out.pop("anyOf", None)
        out["type"] = ["integer", "string"]
    open_ended = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    if "properties" in out and not open_ended:
        out["additionalProperties"] = False
    return out


def names_used(node, found):
    """Adds to `found` the definitions that a schema refers to."""
    if isinstance(node, dict):
        ref = node.get("$ref")
        if isinstance(ref, str):
            found.add(ref.rsplit("/", 1)[1])
        for value in node.values():
            names_used(value, found)
    elif isinstance(node, list):
        for value in node:
            names_used(value, found)


def with_all_it_uses(name, definitions):
    """A schema for `name` that stands alone."""
    used, todo = set(), {name}
    while todo:
        current = todo.pop()
        used.add(current)
        found = set()
        names_used(definitions[current], found)
        todo |= found - used
    return {"$ref": f"#/definitions/{name}", "definitions": {key: definitions[key] for key in used}}


def write(out, group, version, kind, schema):
    """Under the name that .ci/run gives to kubeconform as its template."""
    head = f"{group}_" if group else ""
    (out / f"{head}{version}_{kind}.json".lower()).write_text(json.dumps(schema))


def kubernetes(out, swagger):
    """Schemas of everything that Kubernetes itself serves."""
    out.mkdir(parents=True, exist_ok=True)
    raw = json.loads(pathlib.Path(swagger).read_text())["definitions"]
    definitions = {name: LOOSE.get(name) or strict(schema) for name, schema in raw.items()}
    (out / METADATA).write_text(json.dumps(with_all_it_uses(METADATA, definitions)))
    for name, schema in raw.items():
        kinds = schema.get("x-kubernetes-group-version-kind", [])
        # Types like DeleteOptions belong to every group; nobody writes them into a file.
        if len(kinds) == 1:
            kind = kinds[0]
            write(out, kind["group"], kind["version"], kind["kind"], with_all_it_uses(name, definitions))


def custom(out, crd):
    """Schemas of the kind that a CustomResourceDefinition declares."""
    spec = yaml.safe_load(pathlib.Path(crd).read_text())["spec"]
    metadata = json.loads((out / METADATA).read_text())
    for version in spec["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"$ref": metadata["$ref"]}}
        schema.setdefault("properties", {}).update(own)
        schema["definitions"] = metadata["definitions"]
        write(out, spec["group"], version["name"], spec["names"]["kind"], schema)


if sys.argv[1] == "--crd":
    for path in sys.argv[3:]:
        custom(pathlib.Path(sys.argv[2]), path)
else:
    kubernetes(pathlib.Path(sys.argv[1]), sys.argv[2])
