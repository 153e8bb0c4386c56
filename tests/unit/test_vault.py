"""vault and keyring: keys last, are renewed, are for those in the scope, and are for nobody else to read."""

from pathlib import Path

import msgspec
import pytest

from master.vault import NAME, open_vault
from protocol.errors import Refused, Unavailable
from protocol.messages import Assignment, FileEvent
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, NodeName
from protocol.sealing.boxes import ScopeKey
from protocol.sealing.keyring import Keyring
from tests.support.builders import an_entry
from tests.support.memory_bus import public_key_of, seed_of

NODE = NodeName("node2")


def test_keys_last(tmp_path: Path) -> None:
    vault = open_vault(tmp_path / "state")
    assert vault.ensure([ALL, MASTER_CANDIDATES]) == {ALL, MASTER_CANDIDATES}
    assert vault.ensure([ALL]) == set()

    again = open_vault(tmp_path / "state")

    assert again.key(ALL) == vault.key(ALL) != vault.key(MASTER_CANDIDATES)
    assert (tmp_path / "state" / NAME).stat().st_mode & 0o777 == 0o600


def test_only_what_has_a_key_is_renewed(tmp_path: Path) -> None:
    vault = open_vault(tmp_path)
    vault.ensure([MASTER_CANDIDATES])
    before = vault.key(MASTER_CANDIDATES)

    assert vault.renew([ALL, MASTER_CANDIDATES]) == {MASTER_CANDIDATES}

    assert vault.key(MASTER_CANDIDATES) != before
    assert vault.key(ALL) is None
    assert open_vault(tmp_path).key(MASTER_CANDIDATES) == vault.key(MASTER_CANDIDATES)


def test_the_age_of_a_key_lasts_and_is_that_of_the_newest(tmp_path: Path) -> None:
    vault = open_vault(tmp_path)
    vault.ensure([ALL, MASTER_CANDIDATES])
    scopes = [ALL, MASTER_CANDIDATES, VM_CAPABLE]
    before, kept = vault.shown(scopes)

    vault.renew([ALL])

    after, still = vault.shown(scopes)
    assert open_vault(tmp_path).shown(scopes) == (after, still)
    assert still == kept and (after.what, after.name) == ("scope", ALL)
    assert after.made > before.made > 1.7e9 and after.fingerprint != before.fingerprint
    assert repr(vault.key(ALL).secret) not in repr(after)  # type: ignore[union-attr]


def test_keys_that_were_kept_without_their_age_are_taken_as_they_are(tmp_path: Path) -> None:
    secret = bytes(range(32))
    (tmp_path / NAME).write_bytes(msgspec.json.encode({ALL: secret}))

    vault = open_vault(tmp_path)

    (shown,) = vault.shown([ALL])
    assert (vault.key(ALL), shown.made) == (ScopeKey(secret), 0.0)


@pytest.mark.parametrize("content", [b"", b"{", b'{"nowhere": "AAAA"}', b'{"all": "AAAA"}', b"[]"])
def test_damaged_keys_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)

    with pytest.raises(Refused, match=r"scope-keys\.json is damaged.*move it away"):
        open_vault(tmp_path)


def test_a_disk_that_does_not_take_the_keys_leaves_the_old_ones(tmp_path: Path) -> None:
    vault = open_vault(tmp_path / "state")
    vault.ensure([ALL])
    before = vault.key(ALL)
    (tmp_path / "state" / NAME).unlink()
    (tmp_path / "state").rmdir()
    (tmp_path / "state").write_bytes(b"")

    with pytest.raises(Unavailable, match="cannot write"):
        vault.renew([ALL])

    assert vault.key(ALL) == before


def an_assignment(*scopes: str, vault: object, reader: str = NODE) -> Assignment:
    keys = vault.wrapped(scopes, public_key_of(NodeName(reader)))  # type: ignore[attr-defined]
    return Assignment(node=NODE, epoch=1, serial=1, scopes=scopes, keys=keys)  # type: ignore[arg-type]


def test_a_node_has_the_keys_of_its_scopes_and_hands_the_assignment_on_without(tmp_path: Path) -> None:
    vault = open_vault(tmp_path)
    vault.ensure([ALL, MASTER_CANDIDATES])
    keyring = Keyring(seed_of(NODE), ())

    handed_on = keyring.take(an_assignment(ALL, VM_CAPABLE, vault=vault))

    assert handed_on == Assignment(node=NODE, epoch=1, serial=1, scopes=(ALL, VM_CAPABLE))
    assert keyring.key(ALL) == vault.key(ALL)
    assert keyring.key(MASTER_CANDIDATES) is None and keyring.key(VM_CAPABLE) is None


def test_keys_go_with_the_assignment(tmp_path: Path) -> None:
    vault = open_vault(tmp_path)
    vault.ensure([ALL, MASTER_CANDIDATES])
    keyring = Keyring(seed_of(NODE), ())
    keyring.take(an_assignment(ALL, MASTER_CANDIDATES, vault=vault))

    keyring.take(an_assignment(ALL, vault=vault))

    assert keyring.key(MASTER_CANDIDATES) is None


def test_keys_for_another_identity_are_none(tmp_path: Path) -> None:
    vault = open_vault(tmp_path)
    vault.ensure([ALL])
    keyring = Keyring(seed_of(NODE), ())

    keyring.take(an_assignment(ALL, vault=vault, reader="node3"))

    assert keyring.key(ALL) is None


def test_nothing_is_wrapped_for_a_key_that_is_none(tmp_path: Path) -> None:
    vault = open_vault(tmp_path)
    vault.ensure([ALL])

    assert vault.wrapped([ALL], "") == ()


def test_what_is_no_secret_is_public_as_it_is(tmp_path: Path) -> None:
    vault = open_vault(tmp_path)
    removed = FileEvent(scope=ALL, epoch=1, generation=1, path=an_entry().path, change="removed")

    assert vault.name(ALL, an_entry()) == an_entry().digest
    assert vault.box(ALL, an_entry()) is None
    assert vault.public_event(removed) == removed
