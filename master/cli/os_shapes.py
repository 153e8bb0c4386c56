"""The JSON of OS definitions that scripts rely on. Keys may be added here; none may be renamed or removed."""

from protocol.operator_os_messages import OsDiagnosis, OsInfo
from protocol.os_messages import OsEnv, OsParameter

Json = dict[str, object]


def os_shape(info: OsInfo) -> Json:
    return {
        "name": info.name,
        "full_names": list(full_names(info)),
        "status": info.status,
        "api_versions": list(info.api_versions),
        "variants": list(info.variants),
        "parameters": [_parameter(one) for one in info.parameters],
        "defaults": {name: dict(values) for name, values in info.defaults.items()},
        "nodes": list(info.nodes),
    }


def diagnosis_shape(diagnosis: OsDiagnosis) -> Json:
    return {
        "name": diagnosis.name,
        "status": diagnosis.status,
        "findings": [
            {
                "nodes": list(one.nodes),
                "directories": list(one.directories),
                "valid": bool(one.directories) and not one.problems,
                "problems": list(one.problems),
                "api_versions": list(one.api_versions),
                "variants": list(one.variants),
                "parameters": list(one.parameters),
                "shadowed": list(one.shadowed),
            }
            for one in diagnosis.findings
        ],
    }


def env_shape(env: OsEnv) -> Json:
    return {
        "api_version": env.api_version,
        "directory": env.directory,
        "variables": dict(env.variables),
        "redacted": list(env.redacted),
        "withheld": dict(env.withheld),
    }


def full_names(info: OsInfo) -> tuple[str, ...]:
    """Return what can be asked for: one name per variant, or the base name if there are none."""
    return tuple(f"{info.name}+{variant}" for variant in info.variants) or (info.name,)


def _parameter(parameter: OsParameter) -> Json:
    return {
        "name": parameter.name,
        "since": parameter.since,
        "help": parameter.help,
        "type": parameter.type,
        "choices": list(parameter.choices),
        "default": parameter.default,
        "required": parameter.required,
        "secret": parameter.secret,
    }
