"""The door for nodes that are not in yet: makes their join tokens, and says whom they may trust once they are in."""

import hashlib
import secrets
import ssl

from master.settings import MasterSettings
from protocol import identity, join_token
from protocol.errors import Refused
from protocol.join_token import KEY_BYTES, JoinToken
from protocol.names import Digest, NodeName

_END = "-----END CERTIFICATE-----"


class Door:
    """Reads keys and certificates when they are asked for: they may have been renewed."""

    def __init__(self, settings: MasterSettings) -> None:
        self._settings = settings

    def make_token(self, node: NodeName) -> tuple[str, str]:
        """Return a new token of a node as one word, and the public key by which it will be recognised."""
        secret = secrets.token_bytes(KEY_BYTES)
        token = JoinToken(
            node=node,
            server=self._settings.server_for_nodes or self._settings.server,
            authority=self._fingerprint(),
            door=identity.raw_of(identity.read_seed(self._settings.join_seed_file)),
            secret=secret,
            master=identity.raw_public(identity.read_public_key(self._settings.signing_seed_file)),
        )
        return join_token.to_text(token), identity.public_key_of(identity.seed_of(secret))

    def authorities(self) -> str:
        """Return the certificates of the authorities that may vouch for the cluster's servers."""
        try:
            return self._settings.ca_file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{self._settings.ca_file}: cannot read the authority's certificate: {error}") from error

    def _fingerprint(self) -> Digest:
        first = self.authorities().partition(_END)[0] + _END
        try:
            return Digest(hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest())
        except ValueError as error:
            raise Refused(f"{self._settings.ca_file}: not a certificate") from error
