"""The option that writes expectations anew, and one test per story."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-scenarios",
        action="store_true",
        help="write what the commands of tests/scenarios/*.txt now print; then read the difference",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "story" in metafunc.fixturenames:
        stories = sorted(Path(__file__).parent.glob("*.txt"))
        metafunc.parametrize("story", stories, ids=[story.stem for story in stories])
