"""master/core/damage.py: line, column and key of what is wrong in a JSON text."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.core.cluster import CONFIG_VERSION, from_text, to_text
from master.core.damage import Keys, places
from protocol.errors import Refused
from tests.support.values import a_config, a_file, a_node

CONFIG = a_config(a_node("node2", "C"), a_node("node3"), files=[a_file(), a_file("/etc/b")])
TEXT = to_text(CONFIG)
LINES = TEXT.split("\n")


def line_of(part: str, *, nth: int = 1) -> int:
    return [number for number, line in enumerate(LINES, 1) if part in line][nth - 1]


def complaint(text: str | bytes) -> str:
    with pytest.raises(Refused) as refused:
        from_text(text)
    return str(refused.value)


def test_a_slip_of_the_pen_is_found_by_line_and_column_and_key() -> None:
    number = line_of('"offline": false', nth=2)
    slipped = [*LINES]
    slipped[number - 1] = slipped[number - 1].replace("false", "flase")
    column = LINES[number - 1].index("false") + 1

    said = complaint("\n".join(slipped))

    place = f"line {number}, column {column} (nodes.uuid-node2.offline)"
    assert said == f"config.data is damaged at {place}: Expecting value"


def test_a_value_of_the_wrong_type_is_found_among_its_likes() -> None:
    """The decoder says `$.nodes[...].offline`; an administrator has a hundred nodes."""
    number = line_of('"offline": false', nth=3)
    text = "\n".join([*LINES[: number - 1], LINES[number - 1].replace("false", '"no"'), *LINES[number:]])

    said = complaint(text)

    column = LINES[number - 1].index("false") + 1
    place = f"line {number}, column {column} (nodes.uuid-node3.offline)"
    assert said == f"config.data is damaged at {place}: Expected `bool`, got `str`"


@pytest.mark.parametrize(
    ("keys", "value", "place"),
    [
        ("nodes/uuid-node3/name", "node2", "nodes.uuid-node3.name"),
        ("nodes/uuid-node3/group", "gone", "nodes.uuid-node3.group"),
        ("nodes/uuid-node3/serial_no", 0, "nodes.uuid-node3"),
        ("cluster/master_node", "gone", "cluster.master_node"),
        ("cluster/ancillary_files/1/scope", "group-gone", "cluster.ancillary_files.1.scope"),
        ("cluster/ancillary_files/1/path", "relative", "cluster.ancillary_files.1"),
        ("cluster/candidate_pool_size", 0, "cluster"),
        ("version", 0, "version"),
    ],
)
def test_values_that_do_not_go_together_are_found(keys: str, value: object, place: str) -> None:
    raw = json.loads(TEXT)
    *way, last = keys.split("/")
    here = raw
    for key in way:
        here = here[int(key)] if key.isdecimal() else here[key]
    here[last] = value

    assert f" ({place}): " in complaint(json.dumps(raw, indent=2))


def test_a_newer_version_is_said_to_be_newer_whatever_else_it_holds() -> None:
    raw = json.loads(TEXT) | {"version": CONFIG_VERSION + 1, "nodes": ["another shape"]}

    said = complaint(json.dumps(raw, indent=2))

    assert said.startswith("config.data is newer at line ")
    assert "(version): version 2, this gnt-mesh reads version 1; upgrade gnt-mesh" in said


def test_what_would_be_lost_with_the_next_change_is_refused() -> None:
    """A misspelt key is dropped by a decoder without a word, and of two equal keys all but the last."""
    number = line_of('"drained": false', nth=3)
    misspelt = "\n".join([*LINES[: number - 1], LINES[number - 1].replace("drained", "draind"), *LINES[number:]])
    twice = "\n".join([*LINES[:number], LINES[number - 1], *LINES[number:]])

    assert f"line {number}, " in complaint(misspelt)
    assert "(nodes.uuid-node3.draind): this gnt-mesh does not know this key" in complaint(misspelt)
    assert "(nodes.uuid-node3.drained): this key stands twice" in complaint(twice)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"", "line 1, column 1: "),
        (b"\xff", "line 1, column 1: "),
        (b'{\n "cluster": {\n  "cluster_name": "te', "line 3, column 22 (cluster.cluster_name): "),
        (b'{\n "cluster": {\n  "cluster_name": "t\xc3\xa4\xff"}}', "line 3, column 22 (cluster.cluster_name): "),
        (b'{"version": 1} x', "line 1, column 16"),
        (b"[]", "line 1, column 1: Expected `object`, got `array`"),
        (b'{"x": ' + b"[" * 200_000, "nested too deep"),
    ],
)
def test_a_text_that_is_no_json_is_refused_with_the_place(text: bytes, place: str) -> None:
    assert place in complaint(text)


def test_the_place_of_every_truncation_is_its_end() -> None:
    raw = TEXT.rstrip()
    for length in range(1, len(raw), 7):
        cut = raw[:length].rstrip()
        line = cut.count("\n") + 1
        assert complaint(raw[:length]).startswith(f"config.data is damaged at line {line}, ")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=_JSON, indent=st.none() | st.integers(0, 3), is_ascii=st.booleans())
def test_every_value_of_every_text_is_found_where_it_stands(value: object, indent: int | None, is_ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=is_ascii)

    found = list(places(text))

    assert [keys for keys, _ in found] == list(_keys(value))
    for keys, offset in found:
        assert json.JSONDecoder().raw_decode(text, offset)[0] == _get(value, keys)


def test_a_text_that_survives_is_not_touched_by_any_of_this() -> None:
    assert from_text(to_text(replace(CONFIG, serial_no=9))) == replace(CONFIG, serial_no=9)


def _keys(value: object, keys: Keys = ()) -> list[Keys]:
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [keys, *(deeper for key, one in inner for deeper in _keys(one, (*keys, key)))]


def _get(value: object, keys: Keys) -> object:
    for key in keys:
        value = value[key]  # type: ignore[index]
    return value
