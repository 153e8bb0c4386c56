"""Hypothesis strategies for every message: any value that its type allows and its invariants accept."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

from hypothesis import strategies as st

from protocol import messages
from protocol.change_messages import ChangeRequest
from protocol.messages import ERRORS_MAX, REASON_CHARS_MAX, FileEntry, FileEvent
from protocol.names import Digest, ManagedPath, NodeName, ScopeName, managed_path, node_name, scope_name
from protocol.os_names import JobId, job_id
from tests.support.values import a_public_key

_label = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)

nodes = st.lists(_label, min_size=1, max_size=4).map(".".join).map(node_name)
scopes = st.one_of(
    st.sampled_from(["all", "master-candidates", "vm-capable"]),
    st.from_regex(r"group-[A-Za-z0-9_-]{1,40}", fullmatch=True),
).map(scope_name)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex).map(Digest)

_component = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/"), min_size=1, max_size=20
).filter(lambda text: text not in (".", ".."))
paths = st.lists(_component, min_size=1, max_size=5).map(lambda parts: managed_path("/" + "/".join(parts)))

_NAMES: dict[Any, st.SearchStrategy[Any]] = {
    NodeName: nodes,
    ScopeName: scopes,
    Digest: digests,
    ManagedPath: paths,
    JobId: st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True).map(job_id),
    str: st.text(max_size=40),
    int: st.integers(0, 2**63),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=100),
    type(None): st.none(),
}

_SPECIAL: dict[tuple[str, str], Callable[[], st.SearchStrategy[Any]]] = {
    ("FileEntry", "mode"): lambda: st.integers(0, 0o7777),
    ("FileEntry", "owner"): lambda: st.text(min_size=1, max_size=40),
    ("FileEntry", "group"): lambda: st.text(min_size=1, max_size=40),
    ("FileError", "reason"): lambda: st.text(max_size=REASON_CHARS_MAX),
    ("Status", "errors"): lambda: st.lists(of(messages.FileError), max_size=min(ERRORS_MAX, 4)).map(tuple),
    ("Manifest", "files"): lambda: st.lists(of(FileEntry), max_size=4, unique_by=_path).map(_sorted),
    ("Question", "answer_key"): lambda: st.binary(min_size=32, max_size=32),
    ("Signed", "signer"): lambda: st.text(max_size=9).map(a_public_key),
    ("Signed", "signature"): lambda: st.binary(min_size=64, max_size=64),
    ("Signed", "succession"): lambda: st.lists(of(messages.Succession), max_size=3).map(tuple),
    ("Succession", "signer"): lambda: st.text(max_size=9).map(a_public_key),
    ("Succession", "former"): lambda: st.text(max_size=9).map(a_public_key),
    ("Trust", "master_keys"): lambda: st.lists(st.text().map(a_public_key), min_size=1, max_size=3).map(tuple),
    ("Succession", "signature"): lambda: st.binary(min_size=64, max_size=64),
    ("Assignment", "scopes"): lambda: st.lists(scopes, max_size=4, unique=True).map(tuple),
}


def of(kind: type) -> st.SearchStrategy[Any]:
    """Return a strategy for one kind of message."""
    from tests.support import job_strategies, os_strategies  # which are built of what is here

    for special in (os_strategies.STRATEGIES, job_strategies.STRATEGIES):
        if kind in special:
            return special[kind]
    if kind is FileEvent:
        return of(FileEntry).flatmap(_events)
    hints = typing.get_type_hints(kind)
    fields = {field.name: _field(kind, field.name, hints[field.name]) for field in dataclasses.fields(kind)}
    return st.builds(kind, **fields)


def _field(kind: type, name: str, hint: Any) -> st.SearchStrategy[Any]:
    if special := _SPECIAL.get((kind.__name__, name)):
        return special()
    if issubclass(kind, ChangeRequest) and name in ("by", "reason"):
        return st.text(max_size=40).filter(str.isprintable)
    return st.integers(1, 2**63) if name == "epoch" else _value(hint)


def _value(hint: Any) -> st.SearchStrategy[Any]:
    if hint in _NAMES:
        return _NAMES[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([_value(argument) for argument in arguments])
    if origin is tuple:
        return st.lists(_value(arguments[0]), max_size=4).map(tuple)
    if origin in (dict, Mapping):
        return st.dictionaries(_value(arguments[0]), _value(arguments[1]), max_size=4)
    return of(hint)


def _events(entry: FileEntry) -> st.SearchStrategy[FileEvent]:
    common = {"scope": scopes, "epoch": st.integers(1, 9), "generation": st.integers(0, 9), "path": st.just(entry.path)}
    changed = st.builds(FileEvent, change=st.just("changed"), entry=st.just(entry), **common)
    return changed | st.builds(FileEvent, change=st.just("removed"), **common)


def _path(entry: FileEntry) -> ManagedPath:
    return entry.path


def _sorted(entries: list[FileEntry]) -> tuple[FileEntry, ...]:
    return tuple(sorted(entries, key=_path))
