"""`gnt-mesh decode`: what is in a message, for a person who looks at the bus with the plain `nats` command.

It runs once per message there, so it imports little and never connects.
"""

import contextlib
import json
import sys

import click

from master.cli.failures import FAILED
from master.cli.lazy import MeshCommand
from protocol import codec
from protocol.errors import DecodeError
from protocol.messages import ManifestHead, Signed


@click.command(cls=MeshCommand)
@click.option("--pretty/--compact", default=True, help="Indented, which is the default, or all on one line.")
def decode(pretty: bool) -> int | None:
    """A message's payload on stdin, JSON on stdout.

    The JSON is the message's fields and its kind. What is no message of this mesh gives {"error": "..."} and exit
    code 1. Bytes appear as base64, except a manifest that travels inside its head, which is shown as such. Of a signed
    message is told who claims to have signed it; whether that is true is for the nodes to find out.

    \b
    nats sub 'mesh.status.*' --translate 'gnt-mesh decode --compact'
    nats stream get FILES_all --last-for mesh.manifest.all --translate 'gnt-mesh decode'
    """
    data = sys.stdin.buffer.read(codec.MESSAGE_BYTES_MAX + 1)
    try:
        click.echo(json.dumps(_fields(data), indent=2 if pretty else None))
    except DecodeError as error:
        click.echo(json.dumps({"error": str(error)}))
        return FAILED
    return None


def _fields(data: bytes) -> dict[str, object]:
    if not data:
        raise DecodeError("an empty payload: no message, or one that says no more than its subject")
    message = codec.decode_any(data)
    signer = message.signer if isinstance(message, Signed) else ""
    if isinstance(message, Signed):
        message = codec.decode_any(message.body)
    fields: dict[str, object] = {"kind": type(message).__name__, **json.loads(codec.as_json(message))}
    if signer:
        fields["signed_by"] = signer
    if isinstance(message, ManifestHead) and message.inline:
        with contextlib.suppress(DecodeError):
            fields["inline"] = json.loads(codec.as_json(codec.decode_manifest(message.inline)))
    return fields
