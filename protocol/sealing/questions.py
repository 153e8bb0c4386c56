"""What the master asks of a node, so that the node knows who asks and nobody else reads the answer.

The question is signed and brings a key that was made for it; the answer is sealed for that key. An answer tells hashes
of what is on a node's disk, of a short password too.
"""

import nacl.exceptions
from nacl.public import PrivateKey, PublicKey, SealedBox

from protocol.errors import DecodeError
from protocol.messages import Question


class Questioner:
    """One question and the key to its answer."""

    def __init__(self) -> None:
        self._key = PrivateKey.generate()

    def ask(self, body: bytes) -> Question:
        return Question(body=body, answer_key=bytes(self._key.public_key))

    def open(self, answer: bytes) -> bytes:
        """Return the answer; DecodeError if it was not sealed for this question, or altered."""
        try:
            return bytes(SealedBox(self._key).decrypt(answer))
        except (nacl.exceptions.CryptoError, ValueError, TypeError) as error:
            raise DecodeError("an answer that is not sealed for the question") from error


def seal_answer(question: Question, reply: bytes) -> bytes:
    return bytes(SealedBox(PublicKey(question.answer_key)).encrypt(reply))
