"""The knobs of the daemons and of the operator's tool: every default in one place, every mistake named."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from master.settings import MasterSettings, OperatorSettings, master_settings, operator_settings
from node_agent.settings import AgentSettings, agent_settings
from protocol.errors import Refused

MASTER = """
server = "tls://127.0.0.1:4222"
ca_file = "ca.pem"
seed_file = "master.seed"
system_seed_file = "/keys/system.seed"
signing_seed_file = "/keys/signing.seed"
broker_nodes_file = "../broker/nodes.conf"
"""
AGENT = """
node = "node2"
server = "tls://127.0.0.1:4222"
ca_file = "ca.pem"
seed_file = "node2.seed"
master_keys_file = "master.pub"
"""
OPERATOR = 'server = "tls://127.0.0.1:4222"\nca_file = "ca.pem"\nseed_file = "admin.seed"\n'

READERS: dict[str, tuple[Any, str]] = {
    "master": (master_settings, MASTER),
    "agent": (agent_settings, AGENT),
    "operator": (operator_settings, OPERATOR),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_the_least_that_must_be_said_is_enough(file: Path) -> None:
    file.write_text(MASTER)
    assert master_settings(file) == MasterSettings(
        server="tls://127.0.0.1:4222",
        ca_file=file.parent / "ca.pem",
        seed_file=file.parent / "master.seed",
        system_seed_file=Path("/keys/system.seed"),
        signing_seed_file=Path("/keys/signing.seed"),
        broker_nodes_file=file.parent / "../broker/nodes.conf",
    )
    file.write_text(AGENT)
    assert agent_settings(file) == AgentSettings(
        node="node2",  # type: ignore[arg-type]
        server="tls://127.0.0.1:4222",
        ca_file=file.parent / "ca.pem",
        seed_file=file.parent / "node2.seed",
        master_keys_file=file.parent / "master.pub",
    )
    file.write_text(OPERATOR)
    assert operator_settings(file) == OperatorSettings(
        server="tls://127.0.0.1:4222", ca_file=file.parent / "ca.pem", seed_file=file.parent / "admin.seed"
    )


def test_paths_are_relative_to_the_file_so_that_a_mesh_can_be_moved(file: Path) -> None:
    file.write_text(AGENT + 'root = "root"\nstate_dir = "state"\n')

    settings = agent_settings(file)

    assert (settings.root, settings.state_dir) == (file.parent / "root", file.parent / "state")


def test_a_managed_path_in_the_settings_stays_what_it_is(file: Path) -> None:
    file.write_text(MASTER + 'config_data = "/var/lib/ganeti/config.data"\n')

    assert str(master_settings(file).config_data) == "/var/lib/ganeti/config.data"


def test_every_knob_can_be_set(file: Path) -> None:
    file.write_text(AGENT + 'allowed_paths = ["/etc", "/opt"]\nbeat_interval_s = 2\ndeaf_after_s = 3.5\n')

    settings = agent_settings(file)

    assert settings.allowed_paths == ("/etc", "/opt")
    assert (settings.beat_interval_s, settings.deaf_after_s) == (2.0, 3.5)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("colour = 'blue'", "unknown setting 'colour'"),
        ("server = 5", r"Expected `str`, got `int` - at `\$\.server`"),
        ("server", "not valid TOML"),
        ("[server]", "Expected `str`"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(file: Path, reader: str, line: str, reason: str) -> None:
    read, text = READERS[reader]
    file.write_text("\n".join([*(kept for kept in text.splitlines() if not kept.startswith("server")), line]))

    with pytest.raises(Refused, match=f"{file}: .*{reason}"):
        read(file)


@pytest.mark.parametrize("reader", READERS)
def test_what_must_be_said_is_asked_for(file: Path, reader: str) -> None:
    read, _ = READERS[reader]
    file.write_text("")

    with pytest.raises(Refused, match="missing required field"):
        read(file)


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, reader: str) -> None:
    read, _ = READERS[reader]
    with pytest.raises(Refused, match="No such file"):
        read(tmp_path / "nothing.toml")
    with pytest.raises(Refused, match="Is a directory"):
        read(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="not valid TOML"):
        read(tmp_path / "binary")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('node = "no_de"', "node name 'no_de'"),
        ('allowed_paths = ["etc"]', "allowed_paths: absolute paths only"),
        ("retry_first_s = 0.0", "retry_first_s"),
        ("retry_longest_s = 0.5", "retry_longest_s"),
        ("beat_interval_s = 0.0", "beat_interval_s"),
        ("deaf_after_s = -1.0", "deaf_after_s"),
        ("rescan_interval_s = 0.0", "rescan_interval_s"),
        ("watch_step_ms = 0", "watch_step_ms"),
    ],
)
def test_an_agent_refuses_what_makes_no_sense(file: Path, line: str, reason: str) -> None:
    key = line.split()[0]
    file.write_text("\n".join([*(kept for kept in AGENT.splitlines() if not kept.startswith(f"{key} ")), line]))

    with pytest.raises(Refused, match=reason):
        agent_settings(file)


@pytest.mark.parametrize(
    "line",
    [
        "history_generations = 0",
        "watch_step_ms = 0",
        "watch_debounce_ms = 0",
        "beat_interval_s = 0.0",
        "patrol_interval_s = 0.0",
        "rescan_interval_s = 0.0",
        "silent_after_s = 0.0",
        "file_size_bytes_max = 0",
        'config_data = "/var/../config.data"',
    ],
)
def test_a_master_refuses_what_makes_no_sense(file: Path, line: str) -> None:
    file.write_text(MASTER + line)

    with pytest.raises(Refused, match=line.split()[0]):
        master_settings(file)


@pytest.mark.parametrize("kind", [MasterSettings, AgentSettings])
def test_a_beat_fits_into_the_patience_of_the_other_side(kind: type) -> None:
    """A node is not called deaf or silent because of one lost beat."""
    defaults = {field.name: field.default for field in fields(kind)}
    if kind is AgentSettings:
        master = {field.name: field.default for field in fields(MasterSettings)}
        assert defaults["deaf_after_s"] >= 2 * master["beat_interval_s"]
        assert master["silent_after_s"] >= 2.5 * defaults["beat_interval_s"]
    assert all(value is not None for value in defaults.values())
