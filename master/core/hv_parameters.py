"""The parameters of Ganeti's hypervisors, and what kind of value each takes. Values only.

Names and types are those of Ganeti 3.0. A hypervisor that is not listed here is a third party's: it takes any name, and
its values are texts.
"""

from collections.abc import Mapping
from typing import Final

from master.core.hypervisors import HvValue, parameter_name

_XEN_TEXTS: Final = (
    "blockdev_prefix cpu_mask cpuid kernel_path migration_mode reboot_behavior soundhw vif_script xen_cmd"
)
_XEN_NUMBERS: Final = "cpu_cap cpu_weight migration_port"

_TEXTS: Final = {
    "chroot": "init_script",
    "fake": "migration_mode",
    "kvm": "boot_order cdrom2_image_path cdrom_disk_type cdrom_image_path cpu_mask cpu_type disk_aio disk_cache "
    "disk_discard disk_type floppy_image_path initrd_path kernel_args kernel_path keymap kvm_extra kvm_flag kvm_path "
    "machine_version mem_path migration_caps migration_mode nic_type reboot_behavior root_path scsi_controller_type "
    "security_domain security_model soundhw spice_bind spice_image_compression spice_jpeg_wan_compression "
    "spice_password_file spice_streaming_video spice_tls_ciphers spice_zlib_glz_wan_compression usb_devices usb_mouse "
    "vga vnc_bind_address vnc_password_file vnc_x509_path",
    "lxc": "cpu_mask devices drop_capabilities extra_cgroups extra_config",
    "xen-hvm": f"{_XEN_TEXTS} boot_order cdrom_image_path device_model disk_type nic_type pci_pass vif_type "
    "vnc_bind_address vnc_password_file",
    "xen-pvm": f"{_XEN_TEXTS} bootloader_args bootloader_path initrd_path kernel_args root_path",
}
_NUMBERS: Final = {
    "kvm": "cpu_cores cpu_sockets cpu_threads kvm_pci_reservations migration_bandwidth migration_downtime "
    "migration_port serial_speed spice_ip_version virtio_net_queues",
    "lxc": "num_ttys startup_timeout",
    "xen-hvm": _XEN_NUMBERS,
    "xen-pvm": _XEN_NUMBERS,
}
_ANSWERS: Final = {
    "kvm": "acpi serial_console spice_playback_compression spice_use_tls spice_use_vdagent use_chroot use_guest_agent "
    "use_localtime user_shutdown vhost_net vnc_tls vnc_x509_verify vnet_hdr",
    "xen-hvm": "acpi pae use_localtime viridian",
    "xen-pvm": "use_bootloader",
}
_WORDS: Final = {"yes": True, "true": True, "no": False, "false": False}


def known_parameters(hypervisor: str) -> tuple[str, ...]:
    """Return every parameter of one of Ganeti's hypervisors, nothing for another one."""
    tables = (_TEXTS, _NUMBERS, _ANSWERS)
    return tuple(sorted(name for table in tables for name in table.get(hypervisor, "").split()))


def hv_value(hypervisor: str, name: str, text: str) -> HvValue:
    """Return what a text means as the value of a parameter; ValueError says what it takes."""
    _check_name(hypervisor, name)
    if not text.isprintable():
        raise ValueError(f"hypervisor parameter {name}: a control character in its value")
    if name in _NUMBERS.get(hypervisor, "").split():
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"hypervisor parameter {name} of {hypervisor}: {text!r} is not a whole number") from None
    if name in _ANSWERS.get(hypervisor, "").split():
        if text.lower() not in _WORDS:
            raise ValueError(f"hypervisor parameter {name} of {hypervisor}: {text!r} is neither yes nor no")
        return _WORDS[text.lower()]
    return text


def typed(hypervisor: str, given: Mapping[str, HvValue]) -> dict[str, HvValue]:
    """Return parameters as the hypervisor takes them; None, which removes one, stays. ValueError says what it takes."""
    if not known_parameters(hypervisor):
        return dict(given)
    for name in given:
        _check_name(hypervisor, name)
    return {name: None if value is None else hv_value(hypervisor, name, _text(value)) for name, value in given.items()}


def merged(
    hvparams: Mapping[str, Mapping[str, HvValue]], changes: Mapping[str, Mapping[str, str | None]]
) -> dict[str, dict[str, HvValue]]:
    """Return the parameters with some of them changed, or forgotten where the change is None."""
    result = {hypervisor: dict(values) for hypervisor, values in hvparams.items()}
    for hypervisor, values in changes.items():
        mine = result.setdefault(hypervisor, {})
        for name, text in values.items():
            if text is None:
                _check_name(hypervisor, name)
                mine.pop(name, None)
            else:
                mine[name] = hv_value(hypervisor, name, text)
    return {hypervisor: values for hypervisor, values in result.items() if values}


def _text(value: HvValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_name(hypervisor: str, name: str) -> None:
    parameter_name(name)
    known = known_parameters(hypervisor)
    if known and name not in known:
        raise ValueError(f"hypervisor parameter {name}: {hypervisor} has none of that name; it has {', '.join(known)}")
