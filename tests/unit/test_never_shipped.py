"""master/core/never_shipped.py: what no rule can make travel."""

import pytest

from master.core.never_shipped import why_never_shipped
from node_agent.settings import PROTECTED_PATHS


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/gshadow",
        "/etc/passwd",
        "/etc/group",
        "/etc/machine-id",
        "/etc/hostname",
        "/etc/gnt-mesh",
        "/etc/gnt-mesh/agent.nk",
        "/var/lib/gnt-mesh/master/history/1",
        "/var/lib/ganeti/client.pem",
        "/proc/1/environ",
        "/sys/x",
        "/dev/sda",
        "/run/x",
        "/var/run/x",
    ],
)
def test_these_never_travel(path: str) -> None:
    assert why_never_shipped(path)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadows",
        "/etc/gnt-mesh-hooks",
        "/etc/hosts",
        "/etc/ganeti/shadow",
        "/device",
        "/var/lib/ganeti/server.pem",
    ],
)
def test_these_may(path: str) -> None:
    assert why_never_shipped(path) == ""


@pytest.mark.parametrize("path", PROTECTED_PATHS)
def test_what_an_agent_would_refuse_is_refused_before_it_is_published(path: str) -> None:
    assert why_never_shipped(path)
