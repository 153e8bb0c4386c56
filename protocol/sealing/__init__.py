"""What keeps the bus from being believed, or read further than it should; the only importer of nacl.

keys: nkeys as raw keys. signatures: what the master says is signed. confidential: sealed for the one who is to read it.
boxes, keyring: secrets and their keys. envelopes: what is checked of every message.
"""

from protocol.sealing.confidential import seal, unseal

__all__ = ["seal", "unseal"]
