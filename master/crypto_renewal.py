"""`cluster renew-crypto`: renews the cluster's own keys and certificates, then those of the nodes, under traffic.

What is to be done is durable before anything is, with the fingerprint of everything that is to be replaced; what has
another one by now is done. So a master that is killed goes on when it starts again; and it starts itself again, on
purpose, when its own keys are new, because that is how it takes them up.

A node that is not there keeps what it has. The former authority vouches for the new one, and the former signing key
for its successor, until every node has taken up the new ones; a node that comes back is told then.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
import structlog

from master.core import key_operations
from master.core.fleet import Fleet
from master.desired import Desired
from master.jobs import Jobs
from master.own_keys import AUTHORITY, PARTS, SIGNING, OwnKeys
from master.progress import Progress
from master.renewal import Renewal
from master.settings import MasterSettings
from master.store import unavailable
from protocol import durable, subjects
from protocol.bus import MasterBus
from protocol.change_messages import ChangeRequest
from protocol.errors import DecodeError, Refused, Unavailable
from protocol.key_messages import (
    NODES_PART,
    SCOPES_PART,
    NotRenewed,
    RenewCrypto,
    Renewed,
    TakeTrust,
    Trust,
    TrustTaken,
)
from protocol.names import NodeName, ScopeName

STATE_FILE: Final = "renewal.json"
TRUST_ANSWER_S: Final = 8.0
"""A node tries whom it is to believe before it does."""
TRY_AGAIN_S: Final = 1.0
REMIND_S: Final = 2.0
ALL_PARTS: Final = (*PARTS, SCOPES_PART, NODES_PART)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The last renewal, on the disk: as it was asked for, and how far it is."""

    run: str = ""
    own: dict[str, str] = field(default_factory=dict)
    """What of the cluster's own is replaced, each with its fingerprint before."""
    scopes: dict[ScopeName, str] = field(default_factory=dict)
    """The scopes that get a new key, each with the id of the one before."""
    nodes: dict[NodeName, str] = field(default_factory=dict)
    """The nodes that get a new key, each with its key before."""
    by: str = ""
    reason: str = ""
    is_over: bool = True
    done: tuple[str, ...] = ()
    failed: tuple[NotRenewed, ...] = ()
    untold: tuple[NodeName, ...] = ()
    """Nodes that have not taken up the newest authority and signing key yet, from whatever renewal."""


class CryptoRenewal:
    """`restart` has the master begin again with the keys that are on the disk then."""

    def __init__(
        self, settings: MasterSettings, desired: Desired, jobs: Jobs, *, fleet: Fleet, progress: Progress
    ) -> None:
        self._settings = settings
        self._own = OwnKeys(settings)
        self._desired = desired
        self._jobs = jobs
        self._fleet = fleet
        self._progress = progress
        self._file = settings.state_dir / STATE_FILE
        self._state = _read(self._file)
        self._due = asyncio.Event()
        self._bus: MasterBus
        self._nodes = Renewal(desired, lambda: self._bus)
        self.restart: Callable[[], None] = lambda: None

    @property
    def untold(self) -> tuple[NodeName, ...]:
        """The nodes that still believe in former keys."""
        return self._state.untold

    async def begin(self, request: RenewCrypto) -> Renewed:
        """Note durably what is to be done, which begins with that; Refused if it cannot be, or one is under way."""
        if not self._state.is_over:
            raise Refused("keys are being renewed already; wait for that: gnt-mesh cluster keys shows them")
        config = self._desired.config
        wanted = [config.node(name) for name in request.nodes] or config.sorted_nodes()
        parts = (NODES_PART,) if request.nodes else request.parts or ALL_PARTS
        if unknown := set(parts) - {*ALL_PARTS}:
            raise Refused(f"{', '.join(sorted(unknown))}: there are {', '.join(ALL_PARTS)}")
        own = {name for part in parts for name in PARTS.get(part, ())}
        nodes = {node.name: node.public_key for node in wanted if node.public_key} if NODES_PART in parts else {}
        fingerprints = await asyncio.to_thread(lambda: {name: self._own.fingerprint(name) for name in sorted(own)})
        await asyncio.to_thread(self._own.require_writable, own)
        untold = tuple(node.name for node in config.sorted_nodes() if node.public_key)
        state = State(
            run=secrets.token_hex(8),
            own=fingerprints,
            scopes=self._scope_keys(config.scopes()) if SCOPES_PART in parts else {},
            nodes=nodes,
            by=request.by,
            reason=request.reason,
            is_over=False,
            failed=tuple(
                NotRenewed(node=node.name, reason="has no key yet")
                for node in wanted
                if NODES_PART in parts and not node.public_key
            ),
            untold=untold if {AUTHORITY, SIGNING} & own else self._state.untold,
        )
        await self._save(state)
        self._due.set()
        return self.told(state.run)

    def told(self, run: str) -> Renewed:
        """Return how far a renewal is."""
        if run != self._state.run:
            raise Refused(f"renewal {run[:40]} is not the last one; gnt-mesh cluster keys shows what there is")
        return Renewed(run=run, is_over=self._state.is_over, done=self._state.done, failed=self._state.failed)

    async def follow(self, run: str, patience_s: float) -> Renewed:
        """Return how far a renewal is: when it is over, and at the latest after a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not self.told(run).is_over:
                    await self._progress.wait(patience_s)
        return self.told(run)

    async def run(self, bus: MasterBus) -> None:
        """Go on with what was begun, and tell nodes that come back, until cancelled."""
        self._bus = bus
        while True:
            try:
                if not self._state.is_over:
                    await self._go_on()
                elif self._state.untold:
                    await self._remind()
            except Refused as error:
                await self._end((NotRenewed(node="", reason=str(error)),))
            except (Unavailable, DecodeError) as error:
                log.warning("renewal_waits", reason=str(error))
                await asyncio.sleep(TRY_AGAIN_S)
                continue
            self._due.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REMIND_S if self._state.untold else None):
                    await self._due.wait()

    async def _go_on(self) -> None:
        state = self._state
        if left := [name for name, before in state.own.items() if await self._fingerprint(name) == before]:
            await self._replace_own(left)
            self.restart()
            await asyncio.get_running_loop().create_future()  # until we are begun again
        if state.own:
            await self._settle_own()
        if {AUTHORITY, SIGNING} & state.own.keys():
            failed = await self._tell_trust(state.untold)
        else:
            failed = {}
        if scopes := self._scopes_left():
            why = "cluster renew-crypto: new scope keys"
            await self._desired.change(lambda config, now: config, self._request(), why=why, renew=scopes)
        renewed, without = await self._renew_nodes()
        await self._end(
            tuple(NotRenewed(node=node, reason=why) for node, why in sorted((failed | without).items())), renewed
        )

    async def _replace_own(self, names: Collection[str]) -> None:
        """Up to here nobody who knows only what was before is shut out, and nobody after it either."""
        if {SIGNING, "join"} & set(names):
            await self._desired.change(
                lambda config, now: key_operations.void_tokens(config, now=now), self._request(), why="keys renewed"
            )
        with unavailable("the cluster's own keys cannot be written"):
            await asyncio.to_thread(self._own.prepare, names)
            await asyncio.to_thread(self._own.tell_broker)
            await self._bus.reload_broker()
            await asyncio.to_thread(self._own.take, names)
        log.info("own_keys_replaced", names=sorted(names))

    async def _settle_own(self) -> None:
        """We have begun again with the new keys: those before are void, and what is on the bus is signed anew."""
        with unavailable("the cluster's own keys cannot be written"):
            await asyncio.to_thread(self._own.tell_broker)
            await self._bus.reload_broker()
            await asyncio.to_thread(self._own.take, ())
        if SIGNING in self._state.own:
            async with self._desired.lock:
                await self._desired.publisher.sign_again(self._desired.config, self._desired.manifests)
            await self._jobs.sign_again()

    async def _tell_trust(self, nodes: Collection[NodeName]) -> dict[NodeName, str]:
        """Have nodes take up what is to be believed; return who has not, and why."""
        members = [node.name for node in self._desired.config.sorted_nodes() if node.public_key and node.name in nodes]
        trust = Trust(
            authorities=await asyncio.to_thread(self._own.authorities),
            master_keys=(await self._fingerprint(SIGNING),),
        )

        async def tell(node: NodeName) -> str:
            try:
                request = TakeTrust(word=self._bus.signed_trust(node, trust))
                await self._bus.ask_node(node, subjects.TAKE_TRUST, request, TrustTaken, timeout_s=TRUST_ANSWER_S)
            except (Unavailable, DecodeError) as error:
                return str(error)
            return ""

        answers = await asyncio.gather(*map(tell, members))
        failed = {node: why for node, why in zip(members, answers, strict=True) if why}
        untold = tuple(node for node in self._state.untold if node in failed or node not in nodes)
        await self._save(replace(self._state, untold=untold))
        if not untold:
            await asyncio.to_thread(self._own.forget_former)
            self._bus.forget_former()
        return {
            node: f"does not know the new authority and signing key yet: {why}; it is told when it is there"
            for node, why in failed.items()
        }

    async def _remind(self) -> None:
        members = {node.name for node in self._desired.config.nodes.values()}
        now_s = time.monotonic()
        there = [node for node in self._state.untold if node not in members or self._fleet.is_online(node, now_s)]
        if there:
            await self._tell_trust(there)

    async def _renew_nodes(self) -> tuple[list[NodeName], dict[NodeName, str]]:
        """Return who has a new key, in this try or before it, and who has not."""
        members = {node.name for node in self._desired.config.nodes.values()}
        await self._nodes.finish_former([node for node in self._state.nodes if node in members], self._request())
        keys = {node.name: node.public_key for node in self._desired.config.nodes.values()}
        left = [name for name, before in self._state.nodes.items() if keys.get(name) == before]
        renewed, failed = await self._nodes.renew(left, self._request()) if left else ([], {})
        earlier = [name for name in self._state.nodes if name in keys and name not in left]
        return [*earlier, *renewed], failed

    def _scope_keys(self, scopes: Iterable[ScopeName]) -> dict[ScopeName, str]:
        return dict(sorted(self._desired.vault.key_ids(scopes)))

    def _scopes_left(self) -> list[ScopeName]:
        """Return the scopes whose key is still the one that was to be replaced."""
        keys = self._scope_keys(self._state.scopes)
        return [scope for scope, before in self._state.scopes.items() if keys.get(scope) == before]

    async def _end(self, failed: tuple[NotRenewed, ...], renewed: Collection[NodeName] = ()) -> None:
        own = [f"The {_NAMES[name]} is a new one." for name in self._state.own] if not _is_refused(failed) else []
        left = self._scopes_left()
        scopes = [f"The key of the secrets of {one} is a new one." for one in self._state.scopes if one not in left]
        nodes = [f"Node {node} has a new key; its old one is void." for node in renewed]
        ended = replace(self._state, is_over=True, done=(*own, *scopes, *nodes), failed=(*self._state.failed, *failed))
        await self._save(ended)
        log.info(
            "crypto_renewed", own=sorted(self._state.own), scopes=len(scopes), nodes=len(nodes), failed=len(failed)
        )

    def _request(self) -> ChangeRequest:
        return ChangeRequest(by=self._state.by, reason=self._state.reason)

    async def _fingerprint(self, name: str) -> str:
        return await asyncio.to_thread(self._own.fingerprint, name)

    async def _save(self, state: State) -> None:
        with unavailable(f"cannot write {self._file}"):
            await asyncio.to_thread(durable.write_file, self._file, msgspec.json.encode(state))
        self._state = state
        self._progress.note()


_NAMES: Final = {
    AUTHORITY: "authority",
    "server": "server's certificate",
    SIGNING: "signing key",
    "master": "key of the master",
    "admin": "administrator's key",
    "system": "system key",
    "join": "key in join tokens",
}


def _is_refused(failed: Collection[NotRenewed]) -> bool:
    return any(not one.node for one in failed)


def _read(path: Path) -> State:
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return State()
    except msgspec.DecodeError as error:
        raise Refused(f"{path} is damaged: {error}; move it away, then renew again what was being renewed") from error
