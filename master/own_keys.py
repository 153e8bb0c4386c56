"""The cluster's own keys and certificates on the master's disk, and how each is replaced.

Every one is a single file that is replaced at once; the former and the new one are both believed for a while, because
the broker knows two keys of a user, the former authority vouches for the new one, and the former signing key for its
successor. What is half done is done again, and what is done is seen in the files.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec

from master import certificates, founding
from master.certificates import Pair
from master.core.broker_config import OWN_USERS
from master.settings import MasterSettings
from protocol import durable, identity
from protocol.errors import Refused
from protocol.messages import SUCCESSION_MAX, Succession
from protocol.sealing.signatures import Signer

AUTHORITY: Final = "authority"
SERVER: Final = "server"
SIGNING: Final = founding.SIGNING

PARTS: Final = {
    AUTHORITY: (AUTHORITY, SERVER),
    SERVER: (SERVER,),
    "master": tuple(OWN_USERS),
    SIGNING: (SIGNING,),
}
"""What can be renewed by itself, and which files that replaces."""


class OwnKeys:
    """Reads the files whenever it is asked."""

    def __init__(self, settings: MasterSettings) -> None:
        self._authority = Pair(settings.authority_key_file, settings.ca_file)
        self._server = settings.broker_certificate_file
        self._signing = settings.signing_seed_file
        self._nodes_file = settings.broker_nodes_file
        self._users = {
            "master": settings.seed_file,
            "admin": settings.admin_seed_file,
            "system": settings.system_seed_file,
            "join": settings.join_seed_file,
        }

    def seed(self, name: str) -> Path:
        """Return where the seed of a user, or of the signing key, lies."""
        return self._signing if name == SIGNING else self._users[name]

    def fingerprint(self, name: str) -> str:
        """Return what tells a key or certificate from the one after it; Refused if there is none here."""
        if name == AUTHORITY:
            return certificates.facts(self._authority.key).fingerprint
        if name == SERVER:
            return certificates.facts(self._server).fingerprint
        return identity.read_public_key(self.seed(name))

    def require_writable(self, names: Collection[str]) -> None:
        """Refused if one of these cannot be replaced here."""
        certificates_at = {AUTHORITY: self._authority.key, SERVER: self._server}
        for name in sorted(names):
            path = certificates_at.get(name) or self.seed(name)
            if not os.access(path.parent, os.W_OK):
                raise Refused(f"{path}: nothing can be written there, so the key is to be renewed where it is kept")

    def prepare(self, names: Collection[str]) -> None:
        """Replace certificates, and make the seeds that are to replace others. Nobody uses those yet."""
        if AUTHORITY in names:
            certificates.renew_authority(self._authority)
        if SERVER in names:
            certificates.renew_server(self._server, self._authority)
        for name in sorted({*self._users, SIGNING} & set(names)):
            key = identity.ensure_seed(identity.next_of(self.seed(name)))
            if name == SIGNING:
                self._vouch_for(key)

    def tell_broker(self) -> None:
        """Write which keys the broker is to know: each user's, and the one that is to replace it, if there is one."""
        founding.put_own_users(self._users, self._nodes_file)

    def take(self, names: Collection[str]) -> None:
        """The broker knows what is new: have seeds and authority take the place of the former ones."""
        certificates.show_authority(self._authority)
        for name in sorted({*self._users, SIGNING} & set(names)):
            identity.take_next(self.seed(name))

    def authorities(self) -> str:
        return self._authority.certificate.read_text(encoding="ascii")

    def signer(self) -> Signer:
        """Return the key to sign with; with those that vouch for it, as long as there may be nodes that need that."""
        seed, key, chain = identity.read_seed(self._signing), identity.read_public_key(self._signing), []
        for one in reversed(self._succession()):
            if one.signer == key:
                chain.append(one)
                key = one.former
        return Signer(seed, reversed(chain[:SUCCESSION_MAX]))

    def forget_former(self) -> None:
        """Every node believes the signing key itself."""
        self._succession_file.unlink(missing_ok=True)

    @property
    def _succession_file(self) -> Path:
        return self._signing.with_name(f"{self._signing.name}.succession")

    def _succession(self) -> tuple[Succession, ...]:
        try:
            return msgspec.json.decode(self._succession_file.read_bytes(), type=tuple[Succession, ...])
        except FileNotFoundError:
            return ()
        except msgspec.DecodeError as error:
            raise Refused(f"{self._succession_file} is damaged: {error}; move it away") from error

    def _vouch_for(self, key: str) -> None:
        signer = self.signer()
        chain = (*signer.succession, signer.vouch_for(key))
        durable.write_file(self._succession_file, msgspec.json.encode(chain), mode=0o600)
