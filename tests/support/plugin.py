"""A third party's hypervisor as it comes: an installed distribution with one module and one entry point."""

from pathlib import Path


def install_plugin(site: Path, hypervisor: str, wanted: str) -> None:
    """Put a distribution into a directory of the path; `wanted` is the Python expression that its module holds."""
    module = f"gnt_plugin_{hypervisor.replace('-', '_')}"
    (site / f"{module}.py").write_text(f"HYPERVISOR = {wanted}\n")
    information = site / f"{module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[gnt_mesh.hypervisors]\n{hypervisor} = {module}:HYPERVISOR\n")
