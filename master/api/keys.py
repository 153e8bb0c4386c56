"""Every key and certificate with its age, and new ones."""

import asyncio

from master.daemon import MasterDaemon
from master.own_keys import PARTS, SIGNING, OwnKeys
from protocol import identity
from protocol.bus import Handler
from protocol.errors import Refused
from protocol.key_messages import Authorities, KeyInfo, KeyInfos, RenewalQuery, RenewCrypto, Renewed
from protocol.operator_messages import Nothing

PATIENCE_S_MAX = 5.0


class KeyVerbs:
    """`cluster keys`, `cluster renew-crypto`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._daemon = daemon
        self._desired = daemon.desired

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "keys.list": (Nothing, self.list_all),
            "keys.renew": (RenewCrypto, self.renew),
            "keys.follow": (RenewalQuery, self.follow),
            "keys.authorities": (Nothing, self.authorities),
        }

    async def list_all(self, request: Nothing) -> KeyInfos:
        config, untold = self._desired.config, self._daemon.crypto.untold
        nodes = tuple(
            KeyInfo(
                what="node",
                name=node.name,
                fingerprint=node.public_key,
                made=node.key_time or node.ctime,
                remark="; ".join(
                    filter(
                        None,
                        (
                            "a new one is being taken up" if node.next_public_key else "",
                            "has not taken up the new authority and signing key" if node.name in untold else "",
                        ),
                    )
                ),
            )
            for node in config.sorted_nodes()
            if node.public_key
        )
        access = tuple(
            KeyInfo(what="access", name=one.name, fingerprint=one.public_key, made=one.ctime, remark=one.role)
            for one in config.cluster.access
        )
        cluster = await asyncio.to_thread(_own_keys, OwnKeys(self._daemon.settings))
        scopes = self._desired.vault.shown(config.scopes())
        return KeyInfos(keys=(*await self._daemon.bus.certificates(), *cluster, *access, *scopes, *nodes))

    async def authorities(self, request: Nothing) -> Authorities:
        return Authorities(authorities=await asyncio.to_thread(OwnKeys(self._daemon.settings).authorities))

    async def renew(self, request: RenewCrypto) -> Renewed:
        if request.dry_run:
            raise Refused("renew-crypto has no dry run: what it does is to ask the nodes")
        return await self._daemon.crypto.begin(request)

    async def follow(self, request: RenewalQuery) -> Renewed:
        return await self._daemon.crypto.follow(request.run, min(max(request.patience_s, 0.0), PATIENCE_S_MAX))


def _own_keys(own: OwnKeys) -> tuple[KeyInfo, ...]:
    """Return the master's own keys. Certificates are shown as the server shows them."""
    return tuple(_own_key(own, name) for name in (*PARTS["master"], SIGNING))


def _own_key(own: OwnKeys, name: str) -> KeyInfo:
    path = own.seed(name)
    try:
        key, made = identity.read_public_key(path), path.stat().st_mtime
    except (Refused, OSError) as error:
        return KeyInfo(what="cluster", name=name, fingerprint="", made=0.0, remark=str(error))
    return KeyInfo(what="cluster", name=name, fingerprint=key, made=made)
