"""os_defaults: the cluster's own values of OS parameters."""

import pytest

from master.core.cluster import from_text, to_text
from master.core.os_defaults import modify_os
from protocol.errors import Refused
from protocol.operator_os_messages import OsModify
from tests.support.values import a_config


def test_defaults_are_set_by_name_and_by_variant_and_kept_in_config_data() -> None:
    config = modify_os(a_config(), OsModify(name="tiny", parameters={"a": "1", "b": "2"}), now=1.0)
    config = modify_os(config, OsModify(name="tiny+small", parameters={"a": "3"}), now=2.0)

    assert config.cluster.osparams == {"tiny": {"a": "1", "b": "2"}, "tiny+small": {"a": "3"}}
    assert from_text(to_text(config)) == config


def test_an_os_without_defaults_is_not_kept() -> None:
    config = modify_os(a_config(), OsModify(name="tiny", parameters={"a": "1"}), now=1.0)

    assert modify_os(config, OsModify(name="tiny", parameters={"a": "default"}), now=2.0).cluster.osparams == {}


def test_what_is_like_that_already_is_no_change() -> None:
    config = modify_os(a_config(), OsModify(name="tiny", parameters={"a": "1"}), now=1.0)

    assert modify_os(config, OsModify(name="tiny", parameters={"a": "1"}), now=2.0) is config


@pytest.mark.parametrize(
    ("name", "parameters", "reason"),
    [
        ("a b", {"a": "1"}, "OS name 'a b'"),
        ("tiny+../x", {"a": "1"}, "OS variant '../x'"),
        ("tiny", {}, "nothing to change was given; give -O NAME=VALUE"),
        ("tiny", {"a": "\n"}, "OS parameter a"),
    ],
)
def test_what_cannot_be_is_refused(name: str, parameters: dict[str, str], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        modify_os(a_config(), OsModify(name=name, parameters=parameters), now=1.0)


def test_a_config_from_before_the_key_is_read() -> None:
    text = to_text(a_config()).replace('"osparams": {},', "")

    assert "osparams" not in text
    assert from_text(text) == a_config()
