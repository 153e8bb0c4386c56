"""Instances as text."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from master.cli import tables
from master.cli.formats import moment
from master.cli.tables import Cell
from protocol.instance_messages import InstanceInfo


def instance_table(instances: Sequence[InstanceInfo]) -> RenderableType:
    """Return one line per instance."""
    rows: list[tuple[Cell, ...]] = [
        (one.name, one.node, one.hypervisor, one.os, str(len(one.disks)), one.reinstalling or "-") for one in instances
    ]
    return tables.table(("Instance", "Node", "Hypervisor", "OS", "Disks", "Reinstalling"), rows, right=("Disks",))


def instance_details(instances: Sequence[InstanceInfo]) -> RenderableType:
    """Return everything about each instance, an empty line between two."""
    parts: list[RenderableType] = []
    for one in instances:
        parts += [Text(), tables.facts(_facts(one))] if parts else [tables.facts(_facts(one))]
    return Group(*parts)


def _facts(one: InstanceInfo) -> list[tuple[str, Cell]]:
    facts: list[tuple[str, Cell]] = [
        ("Instance name", one.name),
        ("UUID", one.uuid),
        ("Node", one.node),
        ("OS", one.os),
        ("Hypervisor", one.hypervisor),
    ]
    facts += [(f"Hypervisor parameter {key}", str(value)) for key, value in sorted(one.hvparams.items())]
    facts += [(f"Backend parameter {key}", str(value)) for key, value in sorted(one.beparams.items())]
    facts += [(f"OS parameter {key}", value) for key, value in sorted(one.osparams.items())]
    facts += [(f"OS parameter {key}", "(private)") for key in one.private_names]
    for index, disk in enumerate(one.disks):
        size = f", {disk.size_mib} MiB" if disk.size_mib else ""
        facts.append((f"Disk {index}", f"{disk.path}, {disk.access}, {disk.backend}{size}"))
    for index, nic in enumerate(one.nics):
        more = "".join(f", {key} {value}" for key, value in (("link", nic.link), ("ip", nic.ip)) if value)
        facts.append((f"Network interface {index}", f"{nic.mac}, {nic.mode}{more}"))
    if one.reinstalling:
        facts.append(("Being reinstalled by", f"job {one.reinstalling}"))
    facts += [("Created", moment(one.ctime)), ("Modified", moment(one.mtime))]
    return facts
