"""os_params: what a script gets and what is stored, for every way in which a parameter can come or stay away."""

from itertools import product

import pytest

from master.core.os_params import (
    Given,
    Settled,
    Stored,
    check_variant,
    cluster_defaults,
    modified_defaults,
    settle,
)
from protocol.errors import Refused
from protocol.os_messages import OsDefinition, OsParameter
from protocol.os_names import OsName, OsVariant, os_parameter_name


def an_os(*parameters: OsParameter | str, variants: tuple[str, ...] = ()) -> OsDefinition:
    declared = tuple(
        OsParameter(name=os_parameter_name(one), since=15) if isinstance(one, str) else one for one in parameters
    )
    return OsDefinition(
        name="tiny",
        directory="/srv/ganeti/os/tiny",
        api_versions=(20,),
        variants=tuple(map(OsVariant, variants)),
        parameters=declared,
    )


def parameter(name: str, **more: object) -> OsParameter:
    return OsParameter(name=os_parameter_name(name), since=15, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schema", "cluster", "kept", "given"),
    list(product([None, "schema"], [None, "cluster"], [None, "kept"], [None, "given"])),
)
def test_the_later_layer_counts(schema: str | None, cluster: str | None, kept: str | None, given: str | None) -> None:
    settled = settle(
        an_os(parameter("x", default=schema)),
        defaults={"x": cluster} if cluster else {},
        given=Given({"x": given} if given else {}),
        kept=Stored({"x": kept} if kept else {}),
    )

    wanted = given or kept or cluster or schema
    assert settled == Settled({"x": wanted} if wanted else {}, {}, {})


@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_default_as_a_value_goes_back_to_the_default(cluster: str | None) -> None:
    """Ganeti stores the word and passes it to the script (e.4)."""
    for given in (Given({"x": "default"}), Given(private={"x": "default"})):
        settled = settle(
            an_os("x"),
            defaults={"x": cluster} if cluster else {},
            given=given,
            kept=Stored({"x": "kept"}),
        )
        assert settled.public == ({"x": cluster} if cluster else {})
        assert settled.private == {}


def test_each_class_is_settled_by_itself() -> None:
    settled = settle(
        an_os("a", "b", "c"), defaults={"a": "0"}, given=Given({"a": "1"}, {"b": "2"}, {"c": "3"}), kept=Stored()
    )

    assert settled == Settled({"a": "1"}, {"b": "2"}, {"c": "3"})
    assert settled.confidential.private == {"b": "2"} and settled.confidential.secret == {"c": "3"}


@pytest.mark.parametrize("name", ["private", "secret"])
def test_a_parameter_that_changes_its_class_is_in_one_of_them(name: str) -> None:
    given = Given(**{name: {"x": "new"}})

    settled = settle(an_os("x"), defaults={"x": "cluster"}, given=given, kept=Stored({"x": "old"}))

    assert settled.public == {}
    assert getattr(settled, name) == {"x": "new"}


def test_a_private_one_that_is_given_openly_is_private_no_longer() -> None:
    settled = settle(an_os("x"), defaults={}, given=Given({"x": "new"}), kept=Stored(private={"x": "old"}))

    assert settled == Settled({"x": "new"}, {}, {})


def test_what_the_os_does_not_declare_is_not_kept_and_told() -> None:
    """--keep-known-os-parameters: known to the new OS."""
    settled = settle(
        an_os("a", "p"), defaults={}, given=Given(), kept=Stored({"a": "1", "b": "2"}, {"p": "3", "q": "4"})
    )

    assert settled == Settled({"a": "1"}, {"p": "3"}, {}, dropped=("b", "q"))


@pytest.mark.parametrize(
    ("definition", "given", "reason"),
    [
        (an_os("a", "b"), Given({"c": "1"}), "OS tiny does not declare parameter c; it declares a, b"),
        (an_os(), Given(secret={"c": "1"}), "OS tiny does not declare parameter c; it declares none"),
        (an_os(parameter("n", type="integer")), Given({"n": "x"}), "OS parameter n of tiny is not a whole number"),
        (an_os(parameter("n", choices=("a", "b"))), Given(private={"n": "x"}), "n of tiny is not one of a, b"),
        (an_os(parameter("n", required=True)), Given(), "OS tiny needs parameter n; give it with -O n=VALUE"),
        (an_os(parameter("n", required=True)), Given({"n": "default"}), "OS tiny needs parameter n"),
        (an_os(parameter("n", required=True, secret=True)), Given(), "give it with --os-parameters-secret n=VALUE"),
        (an_os(parameter("n", secret=True)), Given({"n": "x"}), "parameter n of OS tiny is a secret"),
        (an_os(parameter("n", secret=True)), Given(private={"n": "x"}), "give it with --os-parameters-secret n=VALUE"),
    ],
)
def test_what_cannot_be_is_refused_by_name(definition: OsDefinition, given: Given, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        settle(definition, defaults={}, given=given)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Given({"a\tb": "1"}), "OS parameter 'a\\\\tb'"),
        (lambda: Given({"": "1"}), "OS parameter ''"),
        (lambda: Given({"a": "x\x07y"}), "OS parameter a: character 2 of its value is not a printable one"),
        (lambda: Given({"a": "line\nbreak"}), "only normal characters"),
        (lambda: Given({"a": "\u202e"}), "only normal characters"),
        (lambda: Given({"a": "1"}, {"a": "2"}), "public, private or secret, not two of them: a"),
        (lambda: Given({}, {"b": "1", "a": "1"}, {"a": "2", "b": "2"}), "not two of them: a, b"),
    ],
)
def test_only_normal_characters(make: object, reason: str) -> None:
    """Founding text: 'a string, with only "normal" characters in it'."""
    with pytest.raises(Refused, match=reason):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("value", ["", "a b", "süß", "日本", "a=b", "$(x)", "'\"\\", "100%"])
def test_normal_characters_are_taken_as_they_are(value: str) -> None:
    assert settle(an_os("x"), defaults={}, given=Given({"x": value})).public == {"x": value}


def test_defaults_of_the_cluster_that_the_os_does_not_know_are_refused_with_the_way_out() -> None:
    with pytest.raises(Refused, match="gnt-mesh os modify tiny -O b=default"):
        settle(an_os("a"), defaults={"b": "1"}, given=Given())


def test_defaults_of_the_variant_count_more_than_those_of_the_name() -> None:
    osparams = {"tiny": {"a": "1", "b": "1"}, "tiny+small": {"b": "2"}, "other": {"c": "3"}}

    assert cluster_defaults(osparams, OsName("tiny"), None) == {"a": "1", "b": "1"}
    assert cluster_defaults(osparams, OsName("tiny"), OsVariant("small")) == {"a": "1", "b": "2"}
    assert cluster_defaults(osparams, OsName("tiny"), OsVariant("large")) == {"a": "1", "b": "1"}


def test_defaults_are_set_changed_and_removed() -> None:
    assert modified_defaults({"a": "1", "b": "2"}, {"b": "3", "a": "default", "c": "4", "d": "default"}) == {
        "b": "3",
        "c": "4",
    }
    with pytest.raises(Refused, match="only normal characters"):
        modified_defaults({}, {"a": "\n"})


@pytest.mark.parametrize(
    ("variants", "asked", "force", "passed"),
    [
        ((), None, False, None),
        (("a", "b"), "b", False, "b"),
        (("a", "b"), "c", True, "c"),
        (("a", "b"), None, True, "a"),
        ((), "c", True, "c"),
        ((), None, True, None),
    ],
)
def test_a_variant_is_checked(variants: tuple[str, ...], asked: str | None, force: bool, passed: str | None) -> None:
    assert check_variant(an_os(variants=variants), OsVariant(asked) if asked else None, force=force) == passed


@pytest.mark.parametrize(
    ("variants", "asked", "reason"),
    [
        (("a", "b"), None, "OS tiny has variants, choose one: tiny\\+a, tiny\\+b"),
        ((), "a", "OS tiny has no variants"),
        (("a", "b"), "c", "OS tiny has no variant c; it has a, b"),
    ],
)
def test_a_variant_that_does_not_fit_is_refused(variants: tuple[str, ...], asked: str | None, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        check_variant(an_os(variants=variants), OsVariant(asked) if asked else None, force=False)


def test_no_text_shows_a_confidential_value() -> None:
    given = Given({}, {"token": "t0ken"}, {"password": "hush"})

    settled = settle(an_os("token", "password"), defaults={}, given=given, kept=Stored({}, {"token": "0ld"}))

    assert not [word for word in ("t0ken", "hush", "0ld") if word in repr((given, settled, Stored({}, {"t": "0ld"})))]
