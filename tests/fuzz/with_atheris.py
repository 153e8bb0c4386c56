"""One target with atheris: inputs that reach new code are kept and bent further."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["protocol", "master.core"]):
    from tests.fuzz import __main__ as fuzz
    from tests.fuzz.targets import TARGETS, attempt


def main(name: str, runs: str, corpus: str) -> None:
    fuzz.fill(Path(corpus))
    limits = [f"-runs={runs}", f"-max_len={fuzz.INPUT_BYTES_MAX}", f"-timeout={fuzz.HANG_S}", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", corpus], lambda data: attempt(TARGETS[name], data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:4])
