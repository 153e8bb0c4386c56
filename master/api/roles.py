"""Changes of roles: done, and then told with all that follows from them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from master.core import consequences
from master.core.cluster import ClusterConfig
from master.daemon import MasterDaemon
from protocol.messages import Manifest
from protocol.names import NodeName, ScopeName
from protocol.operator_messages import Changed, Goal

WITHDRAWN_MAX: Final = 2000
"""How many withdrawn files are told one by one: the answer is one message."""

Make = Callable[[ClusterConfig, float], ClusterConfig]


@dataclass(frozen=True, slots=True)
class RoleChange:
    """What was so before a change, what is so now, and the goal that proves it."""

    before: ClusterConfig
    after: ClusterConfig
    manifests: dict[ScopeName, Manifest]
    """Those of before."""
    goal: Goal


async def change_roles(daemon: MasterDaemon, make: Make, *, why: str) -> RoleChange:
    """Change the cluster; Refused leaves all as it was."""
    seen: list[tuple[ClusterConfig, ClusterConfig, dict[ScopeName, Manifest]]] = []

    def decide(config: ClusterConfig, now: float) -> ClusterConfig:
        after = make(config, now)
        seen.append((config, after, dict(daemon.desired.manifests)))
        return after

    goal = await daemon.desired.change(decide, why=why)
    ((before, after, manifests),) = seen
    return RoleChange(before, after, manifests, goal)


def tell(daemon: MasterDaemon, change: RoleChange, goal: Goal, *, done: list[str], asked: str = "") -> Changed:
    """Return the answer: what was `done`, who was promoted for it and why, what is withdrawn and what to renew.

    `asked` is the UUID of the node that was named in the request.
    """
    taken = consequences.withdrawn(change.before, change.after, change.manifests)
    rotate = consequences.to_rotate(taken, config_data=daemon.desired.surroundings.config_data)
    lines = [*done, *consequences.promotions(change.before, change.after, asked=asked)]
    lines += consequences.withdrawal_lines(taken, rotate, unreachable=_unreachable(daemon, change))
    state = consequences.pool_state(change.after)
    if state and state != consequences.pool_state(change.before):
        lines.append(state)
    return Changed(
        goal=goal,
        done=tuple(lines),
        withdrawn=taken[:WITHDRAWN_MAX],
        withdrawn_count=len(taken),
        rotate=rotate[:WITHDRAWN_MAX],
    )


def _unreachable(daemon: MasterDaemon, change: RoleChange) -> list[NodeName]:
    now_s = time.monotonic()
    return [node.name for node in change.before.nodes.values() if not daemon.fleet.is_online(node.name, now_s)]
