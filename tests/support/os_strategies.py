"""Hypothesis strategies for the messages of the OS interface, whose texts and names have rules of their own."""

import typing
from typing import Any

from hypothesis import strategies as st

from protocol import os_messages as osm
from protocol.os_names import instance_name, job_id, os_name, os_parameter_name, os_variant
from tests.support.strategies import nodes
from tests.support.strategies import paths as any_paths

printable = st.text(st.characters(categories=["L", "N", "P", "S"], max_codepoint=0x4FF), max_size=20).filter(
    str.isprintable
)
paths = any_paths.filter(str.isprintable)
instances = nodes.map(instance_name)
os_names = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True).map(os_name)
variants = printable.filter(lambda text: text not in ("", ".", "..") and "/" not in text).map(os_variant)
parameter_names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,20}", fullmatch=True).map(os_parameter_name)
parameters = st.dictionaries(parameter_names, printable, max_size=4)
words = st.from_regex(r"[A-Za-z0-9_.:-]{1,20}", fullmatch=True)
problems = st.lists(printable, max_size=3).map(tuple)
seconds = st.floats(0, 2**40)
scalars = st.dictionaries(
    st.from_regex(r"[a-z_]{1,20}", fullmatch=True),
    printable
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none(),
    max_size=4,
)

_declared = st.builds(
    osm.OsParameter,
    name=parameter_names,
    since=st.sampled_from([15, 20]),
    help=printable,
    type=st.sampled_from(["string", "integer", "boolean"]),
    choices=st.lists(printable, max_size=3).map(tuple),
    default=st.none() | printable,
    required=st.booleans(),
    secret=st.booleans(),
)
_definition = st.builds(
    osm.OsDefinition,
    name=printable,
    directory=paths,
    api_versions=st.lists(st.integers(0, 99), max_size=4).map(tuple),
    variants=st.lists(variants, max_size=3).map(tuple),
    parameters=st.lists(_declared, max_size=3).map(tuple),
    problems=problems,
)
_report = st.builds(
    osm.OsReport, node=nodes, definitions=st.lists(_definition, max_size=3).map(tuple), problems=problems
)
_disk = st.builds(
    osm.OsDisk,
    path=paths,
    access=st.sampled_from(["rw", "ro"]),
    backend=st.sampled_from(["block", "file:loop"]),
    size_mib=st.integers(0, 2**40),
    uuid=words,
    name=printable,
)
_nic = st.builds(
    osm.OsNic,
    mac=st.from_regex(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", fullmatch=True),
    mode=st.sampled_from(["bridged", "routed", "openvswitch"]),
    link=words,
    ip=words,
    uuid=words,
    name=printable,
)
_instance = st.builds(
    osm.OsInstance,
    name=instances,
    uuid=words,
    ctime=seconds,
    mtime=seconds,
    primary_node=words,
    hypervisor=words,
    hvparams=scalars,
    beparams=scalars,
    disks=st.lists(_disk, min_size=1, max_size=3).map(tuple),
    nics=st.lists(_nic, max_size=3).map(tuple),
)
_transfer = st.builds(osm.OsTransfer, disk=st.integers(0, 15), path=paths)
_confidential = st.builds(osm.Confidential, private=parameters, secret=st.just({})) | st.builds(
    osm.Confidential, private=st.just({}), secret=parameters
)


def _jobs(action: str) -> st.SearchStrategy[osm.OsJob]:
    more: dict[str, st.SearchStrategy[Any]] = {}
    if action != "verify":
        more["instance"] = _instance
    if action == "create":
        more["is_reinstall"] = st.booleans()
    if action == "rename":
        more["old_name"] = instances
    if action in ("export", "import"):
        more["transfers"] = st.builds(osm.OsTransfer, disk=st.just(0), path=paths).map(lambda one: (one,))
    return st.builds(
        osm.OsJob,
        id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True).map(job_id),
        node=nodes,
        epoch=st.integers(1, 2**63),
        requested=seconds,
        action=st.just(action),
        os=os_names,
        variant=st.none() | variants,
        parameters=parameters.map(lambda given: {f"p{name}": value for name, value in given.items()}),
        private_names=st.just((os_parameter_name("s1"),)),
        secret_names=st.just((os_parameter_name("s2"),)),
        sealed=st.binary(min_size=1, max_size=100),
        debug_level=st.integers(0, 9),
        timeout_s=st.floats(1, osm.TIMEOUT_S_MAX),
        **more,
    )


_job = st.sampled_from(typing.get_args(osm.OsAction)).flatmap(_jobs)

STRATEGIES: dict[type, st.SearchStrategy[Any]] = {
    osm.OsParameter: _declared,
    osm.OsDefinition: _definition,
    osm.OsReport: _report,
    osm.OsReportWanted: st.builds(osm.OsReportWanted),
    osm.OsDisk: _disk,
    osm.OsNic: _nic,
    osm.OsInstance: _instance,
    osm.OsTransfer: _transfer,
    osm.OsJob: _job,
    osm.Confidential: _confidential,
    osm.OsEnvWanted: st.builds(osm.OsEnvWanted, job=_job, api_version=st.none() | st.sampled_from([10, 15, 20])),
    osm.OsEnv: st.builds(
        osm.OsEnv,
        api_version=st.sampled_from([10, 15, 20]),
        directory=paths,
        variables=st.dictionaries(printable, printable, max_size=4),
        redacted=st.lists(printable, max_size=3).map(tuple),
        withheld=st.dictionaries(printable, printable, max_size=4),
    ),
}
