"""Runs every story in this folder: lines that begin with `$ ` are commands, what follows is what they print.

`pytest tests/scenarios --update-scenarios` writes the output anew. The commands are in tests/support/scenario.py.
"""

from pathlib import Path

import pytest

from tests.support.scenario import Story

PROMPT = "$ "


def test_the_story_goes_as_told(story: Path, request: pytest.FixtureRequest) -> None:
    expected = story.read_text(encoding="utf-8")

    actual = told_anew(expected)

    if request.config.getoption("--update-scenarios", default=False):
        story.write_text(actual, encoding="utf-8")
    assert actual == expected or request.config.getoption("--update-scenarios", default=False)


def told_anew(text: str) -> str:
    """Return the text with every command followed by what it prints now; comments and blank lines stay."""
    mesh, lines = Story(), []
    for line in text.splitlines():
        if line.startswith(PROMPT):
            lines += [line, *(f"  {printed}" for printed in mesh.do(line.removeprefix(PROMPT)))]
        elif not line.startswith("  "):
            lines.append(line)
    return "\n".join([*lines, ""])


def test_a_difference_is_noticed() -> None:
    text = "# A story.\n$ node list\n  something else\n"

    assert told_anew(text) != text
    assert told_anew(told_anew(text)) == told_anew(text)


def test_an_unknown_command_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no such command: fly away"):
        told_anew("$ fly away\n")
