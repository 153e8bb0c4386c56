"""Nodes on one switch, for code that runs inside a lab (`outside`)."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.support.nodes.kernel import run
from tests.support.nodes.node import Node

NETWORK = "10.77.0"


class Lab:
    """`count` nodes, booted. `binds`: what of the machine they see, and where."""

    def __init__(self, count: int, binds: Mapping[str, str]) -> None:
        hosts = {f"node{number}": f"{NETWORK}.{number}" for number in range(1, count + 1)}
        self._switch("switch0")
        self.nodes = [Node(name, address, hosts, binds) for name, address in hosts.items()]
        self.heal()
        with ThreadPoolExecutor() as pool:
            list(pool.map(Node.boot, self.nodes))

    def part(self, *groups: Sequence[Node]) -> None:
        """A switch for each group: the cables stay plugged in, and nothing gets across."""
        for number, group in enumerate(groups):
            self._switch(f"switch{number}")
            for node in group:
                run("ip", "link", "set", node.port, "master", f"switch{number}", "up")

    def heal(self) -> None:
        self.part(self.nodes)

    def end(self) -> None:
        for node in self.nodes:
            node.cut_power()

    @staticmethod
    def _switch(name: str) -> None:
        if run("ip", "link", "show", name, check=False).returncode:
            run("ip", "link", "add", name, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
            run("ip", "link", "set", name, "up")
