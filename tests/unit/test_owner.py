"""master/api/owner.py: what Ganeti owns is changed there, if it is followed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from master.api.owner import GANETIS_OWN, guarded
from protocol.errors import Refused
from protocol.operator_messages import NodeAdd, NodeModify, Nothing

SPEC = (Path(__file__).parents[2] / "protocol/SPEC.md").read_text()


def a_daemon(followed: str) -> Any:
    cluster = SimpleNamespace(ganeti_config_data=followed)
    return SimpleNamespace(desired=SimpleNamespace(config=SimpleNamespace(cluster=cluster)))


async def handle(request: object) -> object:
    return request


async def ask(verb: str, request: object, *, followed: str = "/var/lib/ganeti/config.data") -> object:
    return await guarded(a_daemon(followed), verb, handle)(request)


@pytest.mark.parametrize("verb", GANETIS_OWN)
async def test_what_is_ganetis_is_refused_with_the_command_to_use(verb: str) -> None:
    with pytest.raises(Refused, match=f"this cluster is Ganeti's.* use: {GANETIS_OWN[verb]}$"):
        await ask(verb, NodeAdd(name="node9"))
    assert verb in SPEC


@pytest.mark.parametrize("verb", [*GANETIS_OWN, "file.add", "status"])
async def test_a_cluster_of_its_own_refuses_nothing(verb: str) -> None:
    assert await ask(verb, Nothing(), followed="") == Nothing()


@pytest.mark.parametrize("verb", ["file.add", "cluster.redist-conf", "status", "wait", "node.list"])
async def test_what_the_mesh_carries_is_its_own(verb: str) -> None:
    assert await ask(verb, Nothing()) == Nothing()


async def test_of_a_node_the_key_of_its_agent_is_the_meshs_own() -> None:
    for request in (NodeModify(name="n", public_key="U"), NodeModify(name="n", reason="why", by="me")):
        assert await ask("node.modify", request) == request
    for flag in ("master_candidate", "offline", "drained", "master_capable", "vm_capable"):
        with pytest.raises(Refused):
            await ask("node.modify", NodeModify(name="n", public_key="U", **{flag: False}))
    with pytest.raises(Refused):
        await ask("node.modify", NodeModify(name="n", group="rack"))
