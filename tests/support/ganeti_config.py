"""Makes the config.data of a small Ganeti 3.0 cluster, as Ganeti writes it: one line, every section it has.

Written after what Ganeti 3.0's own classes write of a cluster of its test suite (package ganeti-testsuite); which keys
there are, and of which type, is what counts. `python -m tests.support.ganeti_config` writes tests/data/ganeti-3.0.json.
"""

import json
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parent.parent / "data" / "ganeti-3.0.json"

NODES: Final = {
    "node1.example.com": {"master_candidate": True},
    "node2.example.com": {"master_candidate": True, "group": "rack2"},
    "node3.example.com": {"vm_capable": False},
    "node4.example.com": {"drained": True, "group": "rack2"},
    "node5.example.com": {"offline": True, "master_capable": False},
}
GROUPS: Final = ("default", "rack2")


def uuid_of(name: str) -> str:
    """Return a name's UUID, the same every time."""
    number = sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 16**12
    return f"5eed0000-0000-4000-8000-{number:012x}"


def a_ganeti() -> dict[str, Any]:
    """Return the whole config.data as objects, to be changed by a test."""
    return {
        "cluster": _cluster(),
        "ctime": 1700000000.25,
        "disks": {},
        "filters": {},
        "instances": {},
        "mtime": 1700000100.5,
        "networks": {},
        "nodegroups": {uuid_of(name): _group(name) for name in GROUPS},
        "nodes": {uuid_of(name): _node(name, number, flags) for number, (name, flags) in enumerate(NODES.items(), 1)},
        "serial_no": 42,
        "version": 3000000,
    }


def node_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one node's object."""
    node: dict[str, Any] = config["nodes"][uuid_of(name)]
    return node


def text(config: dict[str, Any]) -> bytes:
    return json.dumps(config).encode() + b"\n"


def _cluster() -> dict[str, Any]:
    return {
        "beparams": {"default": {"auto_balance": True, "maxmem": 128, "minmem": 128, "spindle_use": 1, "vcpus": 1}},
        "blacklisted_os": [],
        "candidate_certs": {uuid_of("node1.example.com"): "ab:cd"},
        "candidate_pool_size": 3,
        "cluster_name": "cluster.example.com",
        "compression_tools": ["gzip"],
        "ctime": 1700000000.25,
        "data_collectors": {"cpu-avg-load": {"active": True, "interval": 5000000.0}},
        "default_iallocator": "hail",
        "disk_state_static": {},
        "diskparams": {"plain": {"stripes": 1}},
        "drbd_usermode_helper": "/bin/true",
        "enabled_disk_templates": ["plain", "file"],
        "enabled_hypervisors": ["kvm", "xen-hvm"],
        "enabled_user_shutdown": False,
        "hidden_os": [],
        "highest_used_port": None,
        "hvparams": {
            "fake": {"migration_mode": "live"},
            "kvm": {"acpi": True, "cpu_cores": 0, "kernel_path": "", "vnc_password_file": "/etc/ganeti/kvm-vnc"},
            "xen-hvm": {"cpu_weight": 256, "vnc_password_file": "/etc/ganeti/vnc-cluster-password"},
        },
        "ipolicy": {"spindle-ratio": 32.0, "vcpu-ratio": 4.0},
        "mac_prefix": "aa:00:00",
        "master_ip": "192.0.2.1",
        "master_netdev": "eth0",
        "master_netmask": 32,
        "master_node": uuid_of("node1.example.com"),
        "modify_etc_hosts": False,
        "mtime": 1700000100.5,
        "ndparams": {"ssh_port": 22},
        "nicparams": {"default": {"link": "br0", "mode": "bridged", "vlan": ""}},
        "os_hvp": {},
        "osparams": {"debootstrap": {"filesystem": "ext4"}, "debootstrap+default": {"arch": "amd64"}},
        "osparams_private_cluster": {},
        "primary_ip_family": 2,
        "serial_no": 17,
        "ssh_key_bits": 2048,
        "ssh_key_type": "rsa",
        "tags": ["production"],
        "tcpudp_port_pool": [],
        "uid_pool": [[4000, 4019]],
        "use_external_mip_script": False,
        "uuid": uuid_of("cluster.example.com"),
        "volume_group_name": "xenvg",
    }


def _group(name: str) -> dict[str, Any]:
    return {
        "alloc_policy": "preferred",
        "ctime": 1700000000.25,
        "diskparams": {},
        "ipolicy": {},
        "mtime": 1700000000.25,
        "name": name,
        "ndparams": {},
        "networks": {},
        "serial_no": 1,
        "tags": [],
        "uuid": uuid_of(name),
    }


def _node(name: str, number: int, flags: dict[str, Any]) -> dict[str, Any]:
    return {
        "ctime": 1700000000.25,
        "drained": False,
        "master_candidate": False,
        "master_capable": True,
        "mtime": 1700000000.25,
        "name": name,
        "ndparams": {},
        "offline": False,
        "powered": True,
        "primary_ip": f"192.0.2.{number}",
        "secondary_ip": f"198.51.100.{number}",
        "serial_no": 2,
        "tags": [],
        "uuid": uuid_of(name),
        "vm_capable": True,
        **flags,
        "group": uuid_of(flags.get("group", "default")),
    }


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(text(a_ganeti()))
