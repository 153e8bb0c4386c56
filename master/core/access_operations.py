"""Operators' access and nodes' joining: each operation returns the new config, or is Refused with the reason."""

from dataclasses import replace

from master.core.cluster import ClusterConfig, Node, next_serial, with_cluster, with_nodes
from master.core.grants import ROLES, Access, JoinGrant, access_name
from protocol.access_messages import AccessAdd, AccessRemove, AccessRenew, JoinRequest
from protocol.errors import Refused
from protocol.names import public_key


def add_access(config: ClusterConfig, request: AccessAdd, *, now: float) -> ClusterConfig:
    """Let somebody in."""
    role = next((role for role in ROLES if role == request.role), None)
    if role is None:
        raise Refused(f"role {request.role!r}: one of {', '.join(ROLES)}")
    if any(access.name == request.name for access in config.cluster.access):
        raise Refused(
            f"access {request.name} exists already; to give it a new key, first: gnt-mesh cluster access remove"
            f" {request.name}"
        )
    _check_free(config, request.public_key)
    try:
        access = Access(name=access_name(request.name), role=role, public_key=request.public_key, ctime=now)
    except ValueError as error:
        raise Refused(str(error)) from error
    listed = tuple(sorted((*config.cluster.access, access), key=lambda access: access.name))
    return with_cluster(config, replace(config.cluster, access=listed), now)


def remove_access(config: ClusterConfig, request: AccessRemove, *, now: float) -> ClusterConfig:
    """Shut somebody out; the last operator stays."""
    left = tuple(access for access in config.cluster.access if access.name != request.name)
    if len(left) == len(config.cluster.access):
        known = ", ".join(access.name for access in config.cluster.access)
        raise Refused(f"access {request.name} does not exist; there are {known}")
    if not any(access.role == "operator" for access in left):
        raise Refused(f"access {request.name} is the last operator's; nobody could change anything any more")
    return with_cluster(config, replace(config.cluster, access=left), now)


def renew_access(config: ClusterConfig, request: AccessRenew, *, now: float) -> ClusterConfig:
    """Let somebody in with another key too; once it has been taken up the former one is void."""
    access = next((access for access in config.cluster.access if access.name == request.name), None)
    if access is None:
        known = ", ".join(access.name for access in config.cluster.access)
        raise Refused(f"access {request.name} does not exist; there are {known}")
    if not request.is_taken_up:
        if request.public_key not in access.keys:
            _check_free(config, request.public_key)
        renewed = replace(access, next_public_key=request.public_key)
    elif request.public_key not in access.keys:
        raise Refused(f"access {request.name} has another key: somebody has renewed it meanwhile")
    else:
        renewed = replace(access, public_key=request.public_key, next_public_key="", ctime=now)
    listed = tuple(renewed if one is access else one for one in config.cluster.access)
    return with_cluster(config, replace(config.cluster, access=listed), now)


def grant_join(config: ClusterConfig, name: str, *, token_key: str, expires: float, now: float) -> ClusterConfig:
    """Give a node a join token. A key that it had is void at once: who reinstalls a node does not trust the old one."""
    node = config.node(name)
    if node.uuid == config.cluster.master_node and node.public_key:
        raise Refused(f"node {name} is the master: it cannot join its own cluster anew")
    grant = JoinGrant(token_key=token_key, expires=expires)
    return _with_node(config, replace(node, public_key="", next_public_key="", join=grant), now)


def join(config: ClusterConfig, request: JoinRequest, *, now: float) -> ClusterConfig:
    """Give a node the key that it has made. Asked again with the same key the config comes back as it was.

    The signature has been checked: whoever asks holds the token with this key.
    """
    node = next((node for node in config.nodes.values() if node.name == request.node), None)
    grant = node.join if node else None
    if node is None or grant is None or grant.token_key != request.token_key:
        raise Refused(
            f"the join token for {request.node} is not valid: the node was removed, or a newer token was made; "
            f"make one with: gnt-mesh node add --readd {request.node}"
        )
    if grant.used_by:
        if grant.used_by == request.public_key == node.public_key:
            return config
        raise Refused(
            f"the join token for {request.node} was used already, with another key; if that was not you, somebody else "
            f"has it. Make a new one, which shuts the other out: gnt-mesh node add --readd {request.node}"
        )
    if now > grant.expires:
        raise Refused(
            f"the join token for {request.node} expired {round(now - grant.expires)} s ago; "
            f"make a new one with: gnt-mesh node add --readd {request.node}"
        )
    _check_free(config, request.public_key)
    used = replace(grant, used_by=request.public_key)
    return _with_node(config, replace(node, public_key=request.public_key, key_time=now, join=used), now)


def _with_node(config: ClusterConfig, node: Node, now: float) -> ClusterConfig:
    node = replace(node, serial_no=next_serial(config), mtime=now)
    return with_nodes(config, {**config.nodes, node.uuid: node}, now)


def _check_free(config: ClusterConfig, key: str) -> None:
    try:
        public_key(key)
    except ValueError as error:
        raise Refused(str(error)) from error
    holders: list[str] = [node.name for node in config.nodes.values() if node.public_key == key]
    holders += [access.name for access in config.cluster.access if key in access.keys]
    if holders:
        raise Refused(f"this public key is already the one of {holders[0]}")
