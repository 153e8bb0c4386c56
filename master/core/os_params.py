"""Which OS parameters a script gets, and so which are stored: defaults, what was given, what a reinstall keeps. Pure.

Founding text, OS Parameters: a per-OS cluster default or a value at instance creation; no change but at reinstall;
with another OS discarded, unless --keep-known-os-parameters. What is settled here is complete: what is stored is what
the script got, so a default that changes later changes no instance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import Refused
from protocol.os_messages import Confidential, OsDefinition, OsParameter, check_parameters
from protocol.os_names import OsName, OsVariant, full_os, os_parameter_name, os_parameter_value

DEFAULT: Final = "default"
"""As a value: take the default, whatever is stored. Ganeti's word, though Ganeti itself stores and passes it (e.4)."""

Parameters = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Given:
    """What came with a request: `-O`, `--os-parameters-private`, `--os-parameters-secret`."""

    public: Parameters = field(default_factory=dict)
    private: Parameters = field(default_factory=dict, repr=False)
    secret: Parameters = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refused if a name or value is not allowed, or a name is given in two classes. Only names are shown."""
        try:
            for values in (self.public, self.private, self.secret):
                check_parameters(values)
        except ValueError as error:
            raise Refused(str(error)) from error
        twice = sorted(
            (self.public.keys() & self.private.keys())
            | (self.public.keys() & self.secret.keys())
            | (self.private.keys() & self.secret.keys())
        )
        if twice:
            raise Refused(f"an OS parameter is public, private or secret, not two of them: {', '.join(twice)}")


@dataclass(frozen=True, slots=True)
class Stored:
    """What an instance has from its last install."""

    public: Parameters = field(default_factory=dict)
    private: Parameters = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Settled:
    """What the script gets. All but `secret` is stored with the instance."""

    public: dict[str, str]
    private: dict[str, str] = field(repr=False)
    secret: dict[str, str] = field(repr=False)
    dropped: tuple[str, ...] = ()
    """Names that were stored and are not kept."""

    @property
    def confidential(self) -> Confidential:
        return Confidential(private=self.private, secret=self.secret)


def settle(definition: OsDefinition, *, defaults: Parameters, given: Given, kept: Stored | None = None) -> Settled:
    """Return the parameters of an install: schema's defaults, cluster's, those kept, those given; the later counts.

    Refused, naming the parameter, if one that is given is not declared or not allowed, or a required one is missing.
    """
    declared: dict[str, OsParameter] = {parameter.name: parameter for parameter in definition.parameters}
    kept = kept or Stored()
    _check_given(definition, declared, given)
    _check_defaults(definition, declared, defaults)
    ours = {name: parameter.default for name, parameter in declared.items() if parameter.default is not None}
    by_default = {name: ("public", value) for name, value in {**ours, **defaults}.items()}
    values = dict(by_default)
    for kind, stored in (("public", kept.public), ("private", kept.private)):
        values |= {name: (kind, value) for name, value in stored.items() if name in declared}
    for kind, passed in (("public", given.public), ("private", given.private), ("secret", given.secret)):
        for name, value in passed.items():
            values.pop(name, None)
            if value != DEFAULT:
                values[name] = (kind, value)
            elif name in by_default:
                values[name] = by_default[name]
    for name, (_, value) in values.items():
        if objection := declared[name].objection(value):
            raise Refused(f"OS parameter {name} of {definition.name} {objection}")
    for name, parameter in declared.items():
        if parameter.required and name not in values:
            flag = "--os-parameters-secret" if parameter.secret else "-O"
            raise Refused(f"OS {definition.name} needs parameter {name}; give it with {flag} {name}=VALUE")
    dropped = sorted({*kept.public, *kept.private} - set(declared))
    public, private, secret = (_of_kind(values, kind) for kind in ("public", "private", "secret"))
    return Settled(public, private, secret, tuple(dropped))


def cluster_defaults(osparams: Mapping[str, Parameters], name: OsName, variant: OsVariant | None) -> dict[str, str]:
    """Return the cluster's defaults for an OS: those of its base name, and over them those of name and variant."""
    return {**osparams.get(name, {}), **(osparams.get(full_os(name, variant), {}) if variant else {})}


def modified_defaults(before: Parameters, given: Parameters) -> dict[str, str]:
    """Return the cluster's defaults for one OS after `os modify`: `default` removes one. The OS need not exist."""
    for name, value in given.items():
        _checked(name, value)
    after = {name: value for name, value in {**before, **given}.items() if value != DEFAULT}
    try:
        check_parameters(after)
    except ValueError as error:
        raise Refused(str(error)) from error
    return dict(sorted(after.items()))


def check_variant(definition: OsDefinition, variant: OsVariant | None, *, force: bool) -> OsVariant | None:
    """Return the variant to pass (ganeti-behaviour, c.4); with `force` an unlisted one, or the first for none."""
    name, listed = definition.name, ", ".join(definition.variants)
    if force:
        return variant or next(iter(definition.variants), None)
    if variant is None and definition.variants:
        raise Refused(
            f"OS {name} has variants, choose one: {', '.join(f'{name}+{one}' for one in definition.variants)}"
        )
    if variant is not None and not definition.variants:
        raise Refused(f"OS {name} has no variants, so there is no {name}+{variant}; ask for {name}, or --force-variant")
    if variant is not None and variant not in definition.variants:
        raise Refused(f"OS {name} has no variant {variant}; it has {listed}; or use --force-variant")
    return variant


def _check_given(definition: OsDefinition, declared: Mapping[str, OsParameter], given: Given) -> None:
    passed = [*given.public, *given.private, *given.secret]
    unknown = sorted(name for name in passed if name not in declared)
    if unknown:
        known = ", ".join(declared) or "none"
        raise Refused(f"OS {definition.name} does not declare parameter {', '.join(unknown)}; it declares {known}")
    open_ones = sorted(name for name in (*given.public, *given.private) if declared[name].secret)
    if open_ones:
        raise Refused(
            f"parameter {', '.join(open_ones)} of OS {definition.name} is a secret; "
            f"give it with --os-parameters-secret {open_ones[0]}=VALUE"
        )


def _check_defaults(definition: OsDefinition, declared: Mapping[str, OsParameter], defaults: Parameters) -> None:
    wrong = sorted(name for name in defaults if name not in declared or declared[name].secret)
    if wrong:
        raise Refused(
            f"the cluster's defaults for OS {definition.name} set {', '.join(wrong)}, which it does not take there; "
            f"remove with: gnt-mesh os modify {definition.name} -O {wrong[0]}={DEFAULT}"
        )


def _of_kind(values: Mapping[str, tuple[str, str]], wanted: str) -> dict[str, str]:
    return {name: value for name, (kind, value) in sorted(values.items()) if kind == wanted}


def _checked(name: str, value: str) -> None:
    try:
        os_parameter_value(os_parameter_name(name), value)
    except ValueError as error:
        raise Refused(str(error)) from error
