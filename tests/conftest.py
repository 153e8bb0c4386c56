"""What every test may use: options of this suite, and how long hypothesis may think."""

import pytest
from hypothesis import settings

# No clock decides about a test, and no file is left in the tree: what was found is printed, to be made an example.
settings.register_profile("gnt-mesh", deadline=None, database=None, print_blob=True)
settings.load_profile("gnt-mesh")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden messages anew; a difference is a change of the wire (SPEC.md, section 7)",
    )
