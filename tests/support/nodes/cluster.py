"""A cluster as its administrator makes it: the package on every node, `cluster init` on the first, then `join`."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.nodes.lab import Lab
from tests.support.nodes.node import Found, Node

NAME = "mesh1"
PACKAGES = "/mnt/packages"
"""Where nodes see the directory of the package."""

NATS, MASTER, AGENT = "gnt-mesh-nats.service", "gnt-mesh-master.service", "gnt-mesh-agent.service"
HELPER = "gnt-mesh-helper.service"


class Cluster:
    def __init__(self, lab: Lab, package: Path) -> None:
        self.lab = lab
        self.package_file = package
        self.package = f"{PACKAGES}/{package.name}"
        self.first, *self.others = self.nodes = lab.nodes

    def make(self) -> None:
        """Install everywhere, found, join."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.install, self.nodes))
        self.first.run("gnt-mesh", "cluster", "init", NAME, "--candidate-pool-size", "1")
        for node in self.others:
            self.join(node)

    def install(self, node: Node, package: str = "") -> None:
        node.run("dpkg", "--install", package or self.package)

    def join(self, node: Node, *how: str) -> None:
        """Let a node in, as `node add` says."""
        told = self.said("node", "add", node.name, *how)
        command = next(line for line in told.splitlines() if line.startswith("gnt-mesh-agent join "))
        node.run(*command.split())

    # what the administrator says on the first node

    def said(self, *words: str) -> str:
        return self.first.said("gnt-mesh", *words)

    def json(self, *words: str) -> Any:
        return json.loads(self.said(*words, "--json"))

    def share(self, path: str, text: str, scope: str = "all", mode: int = 0o644) -> None:
        """Put a file on the master and manage it; returns when it is where it should be."""
        self.first.write(path, text, mode)
        self.said("file", "add", path, "--scope", scope)

    def edit(self, path: str, text: str, mode: int = 0o644) -> None:
        """Edit a managed file, and wait for the receipts."""
        self.first.write(path, text, mode)
        self.said("wait", "--timeout", "60")

    # what is on the disks

    def assert_same(self, nodes: Sequence[Node] = ()) -> None:
        """Every managed file is, on every node that should have it, what it is on the master, and on no other node."""
        roles = {node["name"]: node for node in self.json("status")["nodes"]}
        for file in self.json("file", "list"):
            if not file["published"]:
                continue
            source = self.first.find(file["path"])
            assert source is not None, f"{file['path']} is not on the master"
            for node in nodes or self.others:
                wanted = source if _is_in(file["scope"], roles[node.name]) else None
                assert node.find(file["path"]) == wanted, f"{file['path']} on {node.name}"

    def found(self, path: str) -> dict[str, Found | None]:
        """Return a file as it is on every node."""
        return {node.name: node.find(path) for node in self.nodes}

    def logs(self) -> str:
        return "\n".join(f"--- {node.name}\n{node.log(NATS, MASTER, AGENT, HELPER)}" for node in self.nodes)


def _is_in(scope: str, node: dict[str, Any]) -> bool:
    match scope:
        case "master-candidates":
            return node["role"] in ("M", "C")
        case "vm-capable":
            return bool(node["vm_capable"])
        case _:
            return True
