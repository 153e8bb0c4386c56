"""os_definition, os_schema: what may be in an OS directory, and every way in which it may be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.core.os_definition import TEXTS, OsDirectory, judge
from protocol.os_messages import OsDefinition, OsParameter
from protocol.os_names import os_parameter_name

SCRIPTS = frozenset({"create", "import", "export", "rename", "verify"})


def found(
    versions: str | None = "20\n15\n10\n",
    *,
    name: str = "tiny",
    scripts: frozenset[str] = SCRIPTS,
    faults: dict[str, str] | None = None,
    parameters_list: str | None = "",
    schema: str | None = None,
    **texts: str,
) -> OsDirectory:
    """A directory that is well unless told otherwise; `texts` by the part of their name before the dot."""
    files = {"ganeti_api_version": versions, "parameters.list": parameters_list, "parameters.toml": schema}
    files |= {"variants.list" if key == "variants" else key: text for key, text in texts.items()}
    present = {file: text for file, text in files.items() if text is not None and file not in (faults or {})}
    return OsDirectory(name, f"/srv/ganeti/os/{name}", present, scripts - set(faults or {}), faults or {})


def parameter(name: str, since: int = 15, **more: object) -> OsParameter:
    return OsParameter(name=os_parameter_name(name), since=since, **more)  # type: ignore[arg-type]


def test_an_os_of_every_version_is_usable() -> None:
    definition = judge(found(variants="small\nlarge\n", parameters="size\n", parameters_list="size how large\n"))

    assert definition == OsDefinition(
        name="tiny",
        directory="/srv/ganeti/os/tiny",
        api_versions=(20, 15, 10),
        variants=("small", "large"),  # type: ignore[arg-type]
        parameters=(parameter("size", help="how large"),),
    )
    assert definition.is_valid and definition.api_version == 20


def test_comments_and_blank_lines_declare_nothing() -> None:
    """Ganeti takes `# text` for a parameter called `#`, and its next check of parameters dies of an empty line."""
    noise = "\n# a comment\n   # another\n\t\n"

    definition = judge(
        found(
            f"{noise}  20 \r\n{noise}",
            variants=f"{noise} small \n{noise}",
            parameters=f"{noise}one\n",
            parameters_list=f"{noise}two\thelp  text \n{noise}three\n",
        )
    )

    assert definition.problems == ()
    assert (definition.api_versions, definition.variants) == ((20,), ("small",))
    assert definition.parameters == (
        parameter("one"),
        parameter("two", 20, help="help  text"),
        parameter("three", 20),
    )


def test_which_files_are_needed_follows_the_highest_common_version() -> None:
    """Ganeti follows the highest declared one: an OS that also knows version 99 would need what 20 needs."""
    definition = judge(found("10\n99\n", scripts=SCRIPTS - {"verify"}, parameters_list=None))

    assert definition.problems == ()
    assert definition.api_version == 10


def test_version_10_has_neither_variants_nor_parameters() -> None:
    definition = judge(found("10\n5\n", variants="small\n", parameters="size\n", schema="nonsense"))

    assert (definition.variants, definition.parameters, definition.problems) == ((), (), ())


def test_version_15_has_parameters_but_no_parameters_list() -> None:
    definition = judge(found("15", scripts=SCRIPTS - {"verify"}, parameters="one\n", parameters_list="two help\n"))

    assert definition.parameters == (parameter("one"),)
    assert definition.is_valid


@pytest.mark.parametrize(
    ("directory", "problem"),
    [
        (found(None), "ganeti_api_version is missing, which API 10 needs"),
        (found(""), "ganeti_api_version declares no API version"),
        (found("5\n"), "it declares no API version that the mesh knows: 5; the mesh knows 10, 15, 20"),
        (found("20\nten\n"), "ganeti_api_version, line 2: 'ten' is not an API version, which is a number"),
        (found("20\n²\n"), "ganeti_api_version, line 2: '²' is not an API version, which is a number"),
        (found("\n".join(map(str, range(30)))), "ganeti_api_version declares 30 API versions, limit 20"),
        (found(faults={"ganeti_api_version": "is a directory"}), "ganeti_api_version is a directory"),
        (found(scripts=SCRIPTS - {"create"}), "create is missing"),
        (found(scripts=SCRIPTS - {"verify"}), "verify is missing, which API 20 needs"),
        (found(faults={"rename": "is not executable"}), "rename is not executable"),
        (found(parameters_list=None), "parameters.list is missing, which API 20 needs (it may be empty)"),
        (found(variants="a b\n"), "variants.list, line 1: OS variant 'a b'"),
        (found(variants="../x\n"), "variants.list, line 1: OS variant '../x'"),
        (found(variants="\n".join(f"v{n}" for n in range(201))), "variants.list has 201 variants, limit 200"),
        (found(parameters="one two\n"), "parameters, line 1: OS parameter 'one two'"),
        (found(parameters="süß\n"), "parameters, line 1: OS parameter 'süß'"),
        (found(parameters="-x\n"), "parameters, line 1: OS parameter '-x'"),
        (found(parameters="x\n\nx\n"), "parameters, line 3: parameter x is declared twice"),
        (found(parameters_list="x a\nx b\n"), "parameters.list, line 2: parameter x is declared twice"),
        (found(parameters="Size\nsize\n"), "parameters, line 2: parameters Size and size would be the same variable"),
        (
            found(parameters="a-b\n", parameters_list="a_b help\n"),
            "parameters.list, line 1: parameters a-b and a_b would be the same variable",
        ),
        (found(parameters="\n".join(f"p{n}" for n in range(101))), "it declares 101 parameters, limit 100"),
        (found(name="tiny.old"), "OS name 'tiny.old': letters, digits, '_' and '-'"),
        (found(faults={"": "is not a directory"}), "is not a directory"),
        (found(schema="x ="), "parameters.toml: Invalid value"),
        (found(schema="[x]\n"), "parameters.toml: 'x' is declared neither in parameters nor in parameters.list"),
        (found(parameters="x", schema="[x]\ntpye = 'string'\n"), "unknown field `tpye`"),
        (found(parameters="x", schema="[x]\ntype = 'float'\n"), "Invalid enum value 'float'"),
        (found(parameters="x", schema="[x]\ntype = 'integer'\ndefault = 'a'\n"), "x: 'a' is not a whole number"),
        (found(parameters="x", schema="[x]\ntype = 'boolean'\ndefault = 7\n"), "x: '7' is neither yes nor no"),
        (found(parameters="x", schema="[x]\nchoices = ['a']\ndefault = 'b'\n"), "x: 'b' is not one of a"),
        (found(parameters="x", schema='[x]\ndefault = "a\\nb"\n'), "x: OS parameter x: character 2 of its value"),
        (found(parameters="x", schema="[x]\nrequired = true\ndefault = 'a'\n"), "x: required and default exclude"),
        (found(parameters="x", schema="[x]\nsecret = true\ndefault = 'a'\n"), "x: a secret has neither default nor"),
        (found(parameters="x", schema=f"[x]\nchoices = {list(range(51))}\n"), "x: 51 choices, limit 50"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(directory: OsDirectory, problem: str) -> None:
    problems = judge(directory).problems

    assert len(problems) == 1
    assert problem in problems[0]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    problems = judge(found("x\ny\n", scripts=frozenset(), parameters_list=None)).problems

    assert len(problems) == 7


def test_there_is_an_end_to_what_is_said() -> None:
    problems = judge(found(variants="a b\n" * 500)).problems

    assert len(problems) == 20
    assert problems[-1] == "and 481 more problems"


def test_a_schema_refines_what_is_declared() -> None:
    schema = """
        [size]
        type = "integer"
        choices = [1, 2]
        default = 2
        help = "how large"
        [dhcp]
        type = "boolean"
        default = true
        [user]
        required = true
        [password]
        secret = true
    """

    definition = judge(found(parameters="size\ndhcp\nuser\npassword\nother\n", schema=schema))

    assert definition.problems == ()
    assert definition.parameters == (
        parameter("size", type="integer", choices=("1", "2"), default="2", help="how large"),
        parameter("dhcp", type="boolean", default="yes"),
        parameter("user", required=True),
        parameter("password", secret=True),
        parameter("other"),
    )


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [
        (parameter("x"), ["", "anything at all"], []),
        (parameter("x", type="integer"), ["0", "-1", "+5", "007"], ["", "1.5", "one", "٣", "1" * 19]),
        (parameter("x", type="boolean"), ["yes", "No", "TRUE", "false"], ["", "1", "maybe"]),
        (parameter("x", choices=("a", "b")), ["a", "b"], ["", "c", "A"]),
    ],
)
def test_values_are_held_against_the_schema(declared: OsParameter, good: list[str], bad: list[str]) -> None:
    assert [value for value in good if declared.objection(value)] == []
    assert [value for value in bad if not declared.objection(value)] == []


@given(
    st.dictionaries(st.sampled_from(TEXTS), st.text(max_size=200)),
    st.dictionaries(st.sampled_from([*TEXTS, *SCRIPTS, ""]), st.text(max_size=600)),
)
def test_whatever_lies_there_is_a_problem_at_most(texts: dict[str, str], faults: dict[str, str]) -> None:
    judge(OsDirectory("tiny", "/srv/ganeti/os/tiny", texts, SCRIPTS, faults))
