"""The house in one table: who may import whom (conventions, section 2), and a few rules that keep it readable.

To change the house, change the table first. Every import statement counts, wherever it stands: in a function, under
TYPE_CHECKING, behind a condition.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SLEEPS = re.compile(r"\b(?:time|asyncio|anyio)\.sleep\((?!0\))")
PACKAGES = ("protocol", "master", "node_agent")

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

PURE = frozenset(
    {
        "abc",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "collections.abc",
        "contextlib",
        "dataclasses",
        "enum",
        "fnmatch",
    }
    | {"functools", "hashlib", "heapq", "itertools", "json", "math", "operator", "re", "string", "textwrap"}
    | {"types", "typing", "urllib.parse"}
)
"""What of the standard library neither blocks nor differs between two runs."""

ANY = frozenset({"*"})


@dataclass(frozen=True)
class Rule:
    """What a module (or every module of a package) may import. The first rule whose `where` fits counts."""

    where: str
    may_import: tuple[str, ...]
    standard_library: frozenset[str] = ANY
    but_not: tuple[str, ...] = ()


WIRE = (
    "errors",
    "names",
    "messages",
    "os_names",
    "os_messages",
    "change_messages",
    "history_messages",
    "job_messages",
    "operator_job_messages",
    "cluster_messages",
    "file_messages",
    "operator_messages",
    "operator_os_messages",
    "instance_messages",
    "verify_messages",
    "access_messages",
    "key_messages",
    "join_token",
    "subjects",
    "headers",
    "permissions",
    "bus",
)
"""Pure modules of `protocol`; each may import those before it."""

PROTOCOL = (
    *(f"protocol.{module}" for module in WIRE),
    *(
        f"protocol.{module}"
        for module in ("codec", "durable", "identity", "readiness", "orders", "settings_file", "file_hints")
    ),
    "protocol.sealing",
    "protocol.paging",
    "protocol.services",
)
"""`protocol` without `nats_bus`."""

CORE = (
    "protocol.errors",
    "protocol.names",
    "protocol.messages",
    "protocol.os_names",
    "protocol.os_messages",
    "protocol.change_messages",
    "protocol.history_messages",
    "protocol.job_messages",
    "protocol.operator_job_messages",
    "protocol.cluster_messages",
    "protocol.operator_messages",
    "protocol.operator_os_messages",
    "protocol.instance_messages",
    "protocol.verify_messages",
    "protocol.access_messages",
    "protocol.key_messages",
    "msgspec",
)
"""msgspec is pure: config.data's text is decided in core."""

RUNNER = tuple(
    f"node_agent.{module}" for module in ("core.run_plan", "core.job_text", "job_log", "processes", "script")
)

RULES = (
    Rule("protocol.bus", tuple(f"protocol.{module}" for module in WIRE[:-1]), PURE | {"pathlib"}),
    *(
        Rule(f"protocol.{module}", tuple(f"protocol.{below}" for below in WIRE[:index]), PURE)
        for index, module in enumerate(WIRE)
    ),
    Rule("protocol.codec", (*(f"protocol.{module}" for module in WIRE), "msgpack", "msgspec"), PURE),
    Rule("protocol.paging", ("protocol.codec", "protocol.bus", "protocol.operator_messages"), PURE),
    Rule("protocol.durable", ("protocol.names",)),
    Rule("protocol.readiness", ()),
    Rule("protocol.orders", ("protocol.errors", "protocol.readiness", "structlog")),
    Rule("protocol.services", ("protocol.errors",)),
    Rule("protocol.identity", ("protocol.durable", "protocol.errors", "protocol.names", "nkeys", "nacl")),
    Rule("protocol.settings_file", ("protocol.errors", "msgspec")),
    Rule("protocol.file_hints", ("protocol.errors", "watchfiles")),
    Rule("protocol.sealing", (*(f"protocol.{module}" for module in (*WIRE, "codec", "sealing")), "nacl"), PURE),
    Rule("protocol.nats_bus", ("protocol", "nats")),
    Rule("protocol", ()),
    Rule("master.core", ("master.core", "protocol.permissions", *CORE), PURE),
    Rule("master.__main__", ("master", "protocol", "structlog")),
    Rule("master.cli.up", ("master.cli", "master.up", *PROTOCOL, "click"), ANY),
    Rule(
        "master.cli.cluster_init",
        ("master.cli", "master.first_node", "master.core.cluster", "master.up.broker", *PROTOCOL, "click"),
    ),
    Rule(
        "master.cli.failover",
        (
            "master.cli",
            "master.failover",
            "master.first_node",
            "master.settings",
            "master.core.cluster",
            "master.up.claim",
            "master.up.layout",
            *PROTOCOL,
            "click",
        ),
    ),
    Rule("master.cli.connect", ("master.cli", "master.settings", "protocol", "click")),
    Rule("master.cli", ("master.cli", "master.settings", *PROTOCOL, "click", "rich")),
    Rule("master.certificates", ("protocol.durable", "protocol.errors", "cryptography")),
    Rule("master.up.mesh", ("master.up", "master.settings", "master.core", "master.store", "protocol")),
    Rule("master.up.broker", ("master.up", "protocol.errors", "protocol.nats_bus")),
    Rule("master.up.tethered", ()),
    Rule(
        "master.up",
        (
            "master.up",
            "master.settings",
            "master.founding",
            "master.failover",
            "master.core",
            "master.store",
            *PROTOCOL,
        ),
    ),
    Rule("master.logs", ("structlog",)),
    Rule("master.settings", ("protocol.names", "protocol.settings_file")),
    Rule(
        "master", ("master", *PROTOCOL, "msgspec", "structlog"), but_not=("master.cli", "master.up", "master.__main__")
    ),
    Rule("node_agent.core", ("node_agent.core", *CORE), PURE),
    Rule("node_agent.__main__", ("node_agent", "protocol", "structlog")),
    # Beside the agent's network: it never imports the bus.
    Rule("node_agent.privileged", ("node_agent", *PROTOCOL, "msgspec", "structlog"), but_not=("node_agent.__main__",)),
    Rule("node_agent.systemd_bus", ("protocol.errors", "dbus_fast")),
    Rule("node_agent.logs", ("structlog",)),
    *(
        # What the runner of a job consists of: it starts quickly, stays small, and knows neither bus nor agent.
        Rule(f"node_agent.{module}", (*RUNNER, "protocol.durable"))
        for module in ("os_run", "script", "processes", "job_log")
    ),
    Rule("node_agent", ("node_agent", *PROTOCOL, "msgspec", "structlog"), but_not=("node_agent.__main__",)),
)

SOLE_IMPORTERS = {
    "msgpack": "protocol.codec",
    "nats": "protocol.nats_bus",
    "nkeys": "protocol.identity",
    "nacl": "protocol",
    "watchfiles": "protocol.file_hints",
    "click": "master.cli",
    "rich": "master.cli",
    "cryptography": "master.certificates",
    "dbus_fast": "node_agent.systemd_bus",
    "importlib": "master.cli.lazy",
}
"""One place to look at when one of these changes. (`importlib.metadata` only reads our version.)"""

ENVIRONMENT_READERS = frozenset(
    {
        "protocol.readiness",  # NOTIFY_SOCKET
        "master.__main__",
        "node_agent.__main__",
        "node_agent.privileged.__main__",  # LISTEN_FDS
        "node_agent.os_run",  # a program of its own: how its unit ended
        "master.logs",  # a part of __main__: is the journal reading?
        "node_agent.logs",
        "master.cli.app",
        "master.cli.cluster_init",  # PATH, where nats-server may be
        "master.cli.up",  # hands what it was started with on to master.up
    }
)

NAMES_THAT_SAY_NOTHING = frozenset({"utils", "util", "common", "helpers", "helper", "misc", "shared"})


# ---- what there is


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    source: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, str(self.path))


@cache
def modules() -> tuple[Module, ...]:
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return tuple(Module(name_of(path), path, path.read_text(encoding="utf-8")) for path in paths)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of all that is imported; `from package import module` is an import of the module."""
    ours = {module.name for module in modules()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; absolute ones only"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in ours else node.module


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def rule_for(name: str) -> Rule:
    return next(rule for rule in RULES if is_in(name, rule.where))


def is_allowed(rule: Rule, imported: str) -> bool:
    if imported.split(".")[0] in sys.stdlib_module_names:
        return rule.standard_library == ANY or imported in rule.standard_library
    if any(is_in(imported, forbidden) for forbidden in rule.but_not):
        return False
    return any(is_in(imported, allowed) for allowed in rule.may_import)


def violations(module: Module) -> list[str]:
    rule = rule_for(module.name)
    return [
        f"{module.path}:{line}: {module.name} imports {imported}; see the rule for {rule.where}"
        for line, imported in imports(module.tree)
        if not is_allowed(rule, imported)
    ]


def sole_importer_violations(module: Module) -> list[str]:
    return [
        f"{module.path}:{line}: only {SOLE_IMPORTERS[root]} imports {root}"
        for line, imported in imports(module.tree)
        if (root := imported.split(".")[0]) in SOLE_IMPORTERS and imported != "importlib.metadata"
        if not is_in(module.name, SOLE_IMPORTERS[root])
    ]


def environment_reads(module: Module) -> list[str]:
    words = ("environ", "environb", "getenv", "putenv")
    return [
        f"{module.path}:{node.lineno}: reads the environment"
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Attribute) and node.attr in words)
        or (isinstance(node, ast.alias) and node.name in words)
        if module.name not in ENVIRONMENT_READERS
    ]


def long_functions(tree: ast.Module) -> Iterator[tuple[int, str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno, node.name, lines


# ---- the house as it is


def test_every_import_is_in_the_table() -> None:
    assert [violation for module in modules() for violation in violations(module)] == []


def test_a_foreign_package_has_one_importer() -> None:
    assert [violation for module in modules() for violation in sole_importer_violations(module)] == []


def test_the_environment_is_read_at_the_top_alone() -> None:
    assert [read for module in modules() for read in environment_reads(module)] == []


def test_every_rule_is_about_something_that_exists() -> None:
    """A rule for a module that was renamed would silently be the next wider one."""
    names = [module.name for module in modules()]
    assert [rule.where for rule in RULES if not any(is_in(name, rule.where) for name in names)] == []
    assert ENVIRONMENT_READERS - set(names) == frozenset()


def test_files_fit_in_one_reading_and_functions_on_a_screen() -> None:
    files = [f"{module.path}: {lines} lines" for module in modules() if (lines := count_lines(module)) > FILE_LINES_MAX]
    functions = [
        f"{module.path}:{line}: {name} has {lines} lines"
        for module in modules()
        for line, name, lines in long_functions(module.tree)
    ]
    assert files + functions == []


def count_lines(module: Module) -> int:
    return len(module.source.splitlines())


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [module.name for module in modules() if NAMES_THAT_SAY_NOTHING & set(module.name.split("."))] == []


@pytest.mark.parametrize("source", ["await asyncio.sleep(0.1)", "time.sleep(pause_s)"])
def test_a_planted_sleep_is_found(source: str) -> None:
    assert SLEEPS.search(source) and not SLEEPS.search("await asyncio.sleep(0)")


def test_no_test_sleeps() -> None:
    """It waits for an event, a datagram or the file system; what is measured may pause between two measurements."""
    tests = [
        path for path in (ROOT / "tests").rglob("*.py") if "benchmarks" not in path.parts and path != Path(__file__)
    ]
    assert [str(path) for path in tests if SLEEPS.search(path.read_text(encoding="utf-8"))] == []


def test_nothing_imports_the_tests() -> None:
    outside = [path for path in ROOT.glob("*/**/*.py") if path.relative_to(ROOT).parts[0] in ("examples", "deploy")]
    users = [Module(path.stem, path, path.read_text(encoding="utf-8")) for path in outside]
    importing = [
        f"{module.path}:{line}"
        for module in (*modules(), *users)
        for line, imported in imports(module.tree)
        if is_in(imported, "tests")
    ]
    assert importing == []


# ---- a checker counts once it has failed on a planted bug


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("master.core.plan", "import asyncio"),
        ("master.core.plan", "from pathlib import Path"),
        ("master.core.plan", "from master import store"),
        ("master.core.plan", "def f():\n    from master.store import Store"),
        ("master.core.plan", "if TYPE_CHECKING:\n    import structlog"),
        ("master.store", "import protocol.nats_bus"),
        ("master.store", "from protocol import nats_bus"),
        ("master.store", "from master.cli.formats import count"),
        ("master.daemon", "from master.up.layout import Layout"),
        ("master.cli.node", "from master.core import operations"),
        ("master.cli.node", "from master.up.mesh import up"),
        ("master.cli.node", "from protocol.nats_bus import NatsOperatorBus"),
        ("master.cli.up", "from master.core.cluster import new_cluster"),
        ("master.cli.cluster", "from master.first_node import init"),
        ("master.first_node", "from master.up.layout import Layout"),
        ("master.up.child", "from protocol.nats_bus import NatsOperatorBus"),
        ("master.up.mesh", "from master.daemon import MasterDaemon"),
        ("master.up.mesh", "import node_agent.settings"),
        ("master.up.tethered", "from protocol import durable"),
        ("node_agent.files", "from master.settings import MasterSettings"),
        ("node_agent.core.agent", "from protocol import durable"),
        ("node_agent.os_run", "from protocol import codec"),
        ("node_agent.script", "import structlog"),
        ("node_agent.daemon", "from tests.support import mesh"),
        ("protocol.messages", "from protocol.bus import MasterBus"),
        ("protocol.names", "import os"),
        ("protocol.codec", "import time"),
        ("protocol.durable", "import master"),
        ("protocol.brand_new", "from protocol.names import NodeName"),
        ("master.brand_new", "import node_agent.files"),
    ],
)
def test_a_planted_import_is_found(name: str, source: str) -> None:
    assert violations(Module(name, Path("planted.py"), source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("master.publisher", "import msgpack"),
        ("master.publisher", "from nats.aio.client import Client"),
        ("master.up.mesh", "import click"),
        ("master.api", "import importlib"),
    ],
)
def test_a_planted_second_importer_is_found(name: str, source: str) -> None:
    assert sole_importer_violations(Module(name, Path("planted.py"), source))


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['X']", "from os import environ", "import os\nos.getenv('X')"]
)
def test_a_planted_look_at_the_environment_is_found(source: str) -> None:
    assert environment_reads(Module("master.up.mesh", Path("planted.py"), source))


def test_a_planted_long_function_is_found() -> None:
    body = "    pass\n" * FUNCTION_LINES_MAX
    assert list(long_functions(ast.parse(f"def f():\n{body}")))
    assert not list(long_functions(ast.parse(f"def f():\n{body.removesuffix('    pass' + chr(10))}")))
