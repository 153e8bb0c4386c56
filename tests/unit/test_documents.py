"""What the documents name is there: a stranger finds the place for a change in a minute, and no decision twice."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
FILES = [
    f"/{path.relative_to(ROOT)}"
    for folder in ("protocol", "master", "node_agent", "examples", "tests")
    for path in (ROOT / folder).rglob("*.py")
]


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "README.md", "protocol/SPEC.md"])
def test_every_module_that_is_named_exists(document: str) -> None:
    named = set(re.findall(r"`([\w/]+\.py)\b", (ROOT / document).read_text()))

    assert [name for name in sorted(named) if not any(file.endswith(f"/{name}") for file in FILES)] == []
    assert named or document != "ARCHITECTURE.md"


def test_every_decision_has_a_number_of_its_own_in_order() -> None:
    numbers = [int(number) for number in re.findall(r"^\*\*A(\d+) ", ARCHITECTURE, re.MULTILINE)]

    assert numbers == list(range(1, len(numbers) + 1))


def test_every_folder_of_the_product_is_in_the_table() -> None:
    folders = {file.rpartition("/")[0].lstrip("/") for file in FILES if not file.startswith("/tests/")}

    assert [folder for folder in sorted(folders) if f"| `{folder}/` |" not in ARCHITECTURE] == []
