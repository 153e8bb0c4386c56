"""What Ganeti's hypervisors and instances have where nobody says anything. Values only.

Ganeti tells OS scripts every hypervisor and backend parameter, filled up from these (ganeti-behaviour, d). The values
are those of Ganeti 3.0, paths of kernels and programs too. Founding text: scripts get them as an "FYI", since they may
change. A third party's hypervisor has none here.
"""

from collections.abc import Mapping
from typing import Final

from master.core.hypervisors import VNC_PASSWORD, HvValue

_XEN: Final[Mapping[str, HvValue]] = {
    "cpu_cap": 0,
    "cpu_mask": "all",
    "cpu_weight": 256,
    "cpuid": "",
    "migration_port": 8002,
    "reboot_behavior": "reboot",
    "soundhw": "",
    "vif_script": "",
    "xen_cmd": "xl",
}

_LXC_DEVICES: Final = "1:3 1:5 1:7 1:8 1:9 1:10 5:0 5:1 5:2 136:*"
"""null, zero, full, random, urandom, aio, tty, console, ptmx, pseudo terminals."""

_KVM_UNSET: Final = (
    "cdrom2_image_path cdrom_disk_type cdrom_image_path cpu_type floppy_image_path initrd_path keymap kvm_extra "
    "kvm_flag machine_version mem_path migration_caps security_domain soundhw spice_bind spice_image_compression "
    "spice_jpeg_wan_compression spice_password_file spice_streaming_video spice_zlib_glz_wan_compression "
    "usb_devices usb_mouse vga vnc_bind_address vnc_password_file vnc_x509_path"
)

HV_DEFAULTS: Final[Mapping[str, Mapping[str, HvValue]]] = {
    "chroot": {"init_script": "/ganeti-chroot"},
    "fake": {"migration_mode": "live"},
    "kvm": {
        **dict.fromkeys(_KVM_UNSET.split(), ""),
        "acpi": True,
        "boot_order": "disk",
        "cpu_cores": 0,
        "cpu_mask": "all",
        "cpu_sockets": 0,
        "cpu_threads": 0,
        "disk_aio": "threads",
        "disk_cache": "default",
        "disk_discard": "default",
        "disk_type": "paravirtual",
        "kernel_args": "ro",
        "kernel_path": "/boot/vmlinuz-3-kvmU",
        "kvm_path": "/usr/bin/kvm",
        "kvm_pci_reservations": 12,
        "migration_bandwidth": 32,
        "migration_downtime": 30,
        "migration_mode": "live",
        "migration_port": 8102,
        "nic_type": "paravirtual",
        "reboot_behavior": "reboot",
        "root_path": "/dev/vda1",
        "scsi_controller_type": "lsi",
        "security_model": "none",
        "serial_console": True,
        "serial_speed": 38400,
        "spice_ip_version": 0,
        "spice_playback_compression": True,
        "spice_tls_ciphers": "HIGH:-DES:-3DES:-EXPORT:-DH",
        "spice_use_tls": False,
        "spice_use_vdagent": True,
        "use_chroot": False,
        "use_guest_agent": False,
        "use_localtime": False,
        "user_shutdown": False,
        "vhost_net": False,
        "virtio_net_queues": 1,
        "vnc_tls": False,
        "vnc_x509_verify": False,
        "vnet_hdr": True,
    },
    "lxc": {
        "cpu_mask": "",
        "devices": ",".join(f"c {numbers} rw" for numbers in _LXC_DEVICES.split()),
        "drop_capabilities": "mac_override,sys_boot,sys_module,sys_time,sys_admin",
        "extra_cgroups": "",
        "extra_config": "",
        "num_ttys": 6,
        "startup_timeout": 30,
    },
    "xen-hvm": {
        **_XEN,
        "acpi": True,
        "blockdev_prefix": "hd",
        "boot_order": "cd",
        "cdrom_image_path": "",
        "device_model": "/usr/lib/xen/bin/qemu-dm",
        "disk_type": "paravirtual",
        "kernel_path": "/usr/lib/xen/boot/hvmloader",
        "migration_mode": "non-live",
        "nic_type": "rtl8139",
        "pae": True,
        "pci_pass": "",
        "use_localtime": False,
        "vif_type": "ioemu",
        "viridian": False,
        "vnc_bind_address": "0.0.0.0",
        "vnc_password_file": VNC_PASSWORD,
    },
    "xen-pvm": {
        **_XEN,
        "blockdev_prefix": "sd",
        "bootloader_args": "",
        "bootloader_path": "",
        "initrd_path": "",
        "kernel_args": "ro",
        "kernel_path": "/boot/vmlinuz-3-xenU",
        "migration_mode": "live",
        "root_path": "/dev/xvda1",
        "use_bootloader": False,
    },
}

BE_DEFAULTS: Final[Mapping[str, HvValue]] = {
    "always_failover": False,
    "auto_balance": True,
    "maxmem": 128,
    "minmem": 128,
    "spindle_use": 1,
    "vcpus": 1,
}
