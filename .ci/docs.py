#!/usr/bin/env python3
"""Whether the manual tells the truth where a program can know: links lead somewhere, and what the manual lists
is what the code has, no more and no less.

usage, in the root of the workspace: docs.py HALE      (the program, which is asked for its --help)
"""

import pathlib
import re
import subprocess
import sys

import yaml

wrong = []


def compare(what, page, said, real):
    """`said` by a page of the manual against what is `real`."""
    said, real = set(said), set(real)
    for name in sorted(real - said):
        wrong.append(f"{page} lacks the {what} {name}")
    for name in sorted(said - real):
        wrong.append(f"{page} has the {what} {name}, which does not exist")


def first_column(page):
    """What stands in backquotes at the beginning of the rows of a page's tables."""
    return re.findall(r"^\| `([^`]+)`", pathlib.Path(page).read_text(), re.M)


def anchors(text):
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], check=True, stdout=subprocess.PIPE, text=True)
    for page in map(pathlib.Path, listed.stdout.split()):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            if not file.exists():
                wrong.append(f"{page}: {target} leads nowhere")
            elif anchor and anchor not in anchors(file.read_text()):
                wrong.append(f"{page}: {target} has no such heading")


def flags(hale):
    real = set()
    for command in ("run", "serve", "demo", "status", "why"):
        text = subprocess.run([hale, command, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout
        real |= set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", text, re.M))
    real -= {"--help", "--version"}
    page = "docs/cli.md"
    compare("flag", page, [name for name in first_column(page) if name.startswith("--")], real)
    template = "charts/hale/templates/_pod.tpl"
    for name in set(re.findall(r"^- (--[a-z-]+)=", pathlib.Path(template).read_text(), re.M)) - real:
        wrong.append(f"{template} gives {name}, which does not exist")


def reasons():
    page = "docs/reasons.md"
    real = re.findall(r'^    (\w+) = "[a-z-]+",$', pathlib.Path("dataplane/src/reason.rs").read_text(), re.M)
    compare("reason", page, first_column(page), real)


def metrics():
    page = "docs/metrics.md"
    sources = ["dataplane/src/metrics/exposition.rs", "controller/src/metrics.rs"]
    real = {name for source in sources for name in re.findall(r'"(hale_\w+)"', pathlib.Path(source).read_text())}
    # The encoder adds what OpenMetrics wants at the end of a name.
    bare = lambda name: re.sub(r"_(total|seconds|info)$", "", name)
    compare("metric", page, map(bare, first_column(page)), map(bare, real))


def fields(schema, path):
    """Paths of all fields below a schema, as the manual writes them."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here
        yield from fields(field, here)
        if "items" in field:
            yield from fields(field["items"], f"{here}[]")


def policy():
    crd = yaml.safe_load(pathlib.Path("charts/hale/crd/upstreampolicies.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    page = "docs/upstream-policy.md"
    # The table of sections and targets is not one of fields.
    said = [name for name in first_column(page) if re.match(r"[a-z]", name)]
    compare("field", page, said, fields(spec, ""))


def values():
    """Values of the chart that pages name."""
    real = yaml.safe_load(pathlib.Path("charts/hale/values.yaml").read_text())
    for page in [*pathlib.Path("docs").glob("*.md"), pathlib.Path("README.md"), pathlib.Path("SECURITY.md")]:
        if not page.exists():
            continue
        for name in re.findall(r"(?<![\w/])((?:controller|rbac|crds|serviceAccount)(?!\.md)(?:\.\w+)+)\b", page.read_text()):
            node = real
            for part in name.split("."):
                node = node.get(part) if isinstance(node, dict) else None
                if node is None:
                    wrong.append(f"{page} names the value {name}, which the chart does not have")
                    break


links()
flags(sys.argv[1])
reasons()
metrics()
policy()
values()
for line in wrong:
    print(line)
print(f"manual: {len(wrong)} wrong")
sys.exit(bool(wrong))
