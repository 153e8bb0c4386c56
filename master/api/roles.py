"""Changes of roles, told with all that follows from them."""

import time
from dataclasses import replace
from typing import Final

from master.core import consequences
from master.daemon import MasterDaemon
from master.outcome import Outcome
from protocol.names import NodeName
from protocol.operator_messages import Changed, Goal

WITHDRAWN_MAX: Final = 2000
"""How many withdrawn files are told one by one: the answer is one message."""


def tell(
    daemon: MasterDaemon,
    outcome: Outcome,
    goal: Goal,
    *,
    done: list[str],
    asked: str = "",
    keeps_its_files: bool = False,
) -> Changed:
    """Return the answer: what was `done`, who was promoted for it and why, what is withdrawn and what to renew.

    `asked` is the UUID of the node that was named in the request; it `keeps_its_files` if it is removed without having
    given them back.
    """
    taken = consequences.withdrawn(outcome.before, outcome.after, outcome.manifests)
    if keeps_its_files:
        taken = tuple(replace(item, left_behind=True) for item in taken)
    rotate = consequences.to_rotate(taken, config_data=daemon.desired.surroundings.config_data)
    lines = [*done, *consequences.promotions(outcome.before, outcome.after, asked=asked)]
    lines += consequences.withdrawal_lines(taken, rotate, unreachable=_unreachable(daemon, outcome))
    state = consequences.pool_state(outcome.after)
    if state and state != consequences.pool_state(outcome.before):
        lines.append(state)
    return Changed(
        goal=goal,
        done=tuple(lines),
        withdrawn=taken[:WITHDRAWN_MAX],
        withdrawn_count=len(taken),
        rotate=rotate[:WITHDRAWN_MAX],
        preview=outcome.preview,
    )


def _unreachable(daemon: MasterDaemon, outcome: Outcome) -> list[NodeName]:
    now_s = time.monotonic()
    members = outcome.after.nodes.values()
    return [node.name for node in members if not daemon.fleet.is_online(node.name, now_s)]
