"""The JSON of instances that scripts rely on. Keys may be added here; none may be renamed or removed."""

from protocol.instance_messages import InstanceInfo

Json = dict[str, object]


def instance_shape(info: InstanceInfo) -> Json:
    return {
        "name": info.name,
        "uuid": info.uuid,
        "node": info.node,
        "os": info.os,
        "hypervisor": info.hypervisor,
        "hvparams": dict(info.hvparams),
        "beparams": dict(info.beparams),
        "osparams": dict(info.osparams),
        "osparams_private": list(info.private_names),
        "disks": [
            {
                "path": disk.path,
                "size_mib": disk.size_mib or None,
                "access": disk.access,
                "backend": disk.backend,
                "name": disk.name,
                "uuid": disk.uuid,
            }
            for disk in info.disks
        ],
        "nics": [
            {
                "mac": nic.mac,
                "mode": nic.mode,
                "link": nic.link,
                "ip": nic.ip,
                "name": nic.name,
                "uuid": nic.uuid,
            }
            for nic in info.nics
        ],
        "reinstalling": info.reinstalling or None,
        "serial_no": info.serial_no,
        "ctime": info.ctime,
        "mtime": info.mtime,
    }
