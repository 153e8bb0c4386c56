"""The fixture that runs every test of the contract twice."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.harness import Harness, MemoryHarness, NatsHarness, nats_harness


@pytest.fixture(params=["memory", "nats"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    """The memory bus, then a real server."""
    if request.param == "memory":
        yield MemoryHarness()
    else:
        async with nats_harness(tmp_path / "broker") as harness:
            yield harness


@pytest.fixture
async def nats_bus(tmp_path: Path) -> AsyncIterator[NatsHarness]:
    """A real server, for what only a server does."""
    async with nats_harness(tmp_path / "broker") as harness:
        yield harness
