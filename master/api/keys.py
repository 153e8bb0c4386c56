"""Every key and certificate with its age, and new ones for the nodes."""

from pathlib import Path

from master.daemon import MasterDaemon
from master.renewal import Renewal
from protocol import identity
from protocol.bus import Handler
from protocol.errors import Refused
from protocol.key_messages import KeyInfo, KeyInfos, NotRenewed, RenewCrypto, Renewed
from protocol.names import NodeName
from protocol.operator_messages import Nothing


class KeyVerbs:
    """`cluster keys`, `cluster renew-crypto`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._daemon = daemon
        self._desired = daemon.desired
        self._renewal = Renewal(daemon.desired, lambda: daemon.bus)

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {"keys.list": (Nothing, self.list_all), "keys.renew": (RenewCrypto, self.renew)}

    async def list_all(self, request: Nothing) -> KeyInfos:
        config, settings = self._desired.config, self._daemon.settings
        own = {
            "master": settings.seed_file,
            "system": settings.system_seed_file,
            "signing": settings.signing_seed_file,
            "join": settings.join_seed_file,
        }
        nodes = tuple(
            KeyInfo(
                what="node",
                name=node.name,
                fingerprint=node.public_key,
                made=node.key_time or node.ctime,
                remark="a new one is being taken up" if node.next_public_key else "",
            )
            for node in config.sorted_nodes()
            if node.public_key
        )
        access = tuple(
            KeyInfo(what="access", name=one.name, fingerprint=one.public_key, made=one.ctime, remark=one.role)
            for one in config.cluster.access
        )
        cluster = tuple(_own_key(name, path) for name, path in own.items())
        return KeyInfos(keys=(*await self._daemon.bus.certificates(), *cluster, *access, *nodes))

    async def renew(self, request: RenewCrypto) -> Renewed:
        if request.dry_run:
            raise Refused("renew-crypto has no dry run: what it does is to ask the nodes")
        config = self._desired.config
        wanted = [config.node(name) for name in request.nodes] or config.sorted_nodes()
        with_key = [node.name for node in wanted if node.public_key]
        renewed, failed = await self._renewal.renew(with_key, request)
        without: dict[NodeName, str] = {node.name: "has no key yet" for node in wanted if not node.public_key}
        return Renewed(
            done=tuple(f"Node {node} has a new key; its old one is void." for node in renewed),
            failed=tuple(NotRenewed(node=node, reason=why) for node, why in sorted((failed | without).items())),
        )


def _own_key(name: str, path: Path) -> KeyInfo:
    try:
        key, made = identity.read_public_key(path), path.stat().st_mtime
    except (Refused, OSError) as error:
        return KeyInfo(what="cluster", name=name, fingerprint="", made=0.0, remark=str(error))
    return KeyInfo(what="cluster", name=name, fingerprint=key, made=made)
