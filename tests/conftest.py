"""What every test may use: options of this suite."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden messages anew; a difference is a change of the wire (SPEC.md, section 7)",
    )
