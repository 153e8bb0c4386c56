"""`python -m tests.fuzz [--inputs N] [--target NAME]`: so many inputs in all, in equal shares for every target.

With atheris, which follows the code that an input reaches; without it (it has wheels for some Pythons only) with inputs
that hypothesis cuts, joins and bends from well-formed ones. Exit 1, and the input, if something is found.
"""

import argparse
import importlib.util
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

INPUTS = 1_000_000
MEMORY_BYTES_MAX = 2 * 1024**3
INPUT_BYTES_MAX = 4096
HANG_S = 20


def main() -> int:
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="in all (%(default)s)")
    parser.add_argument("--target", choices=sorted(TARGETS), help="this one alone")
    parser.add_argument("--engine", choices=("atheris", "hypothesis"), default=best_engine())
    arguments = parser.parse_args()
    chosen = [arguments.target] if arguments.target else list(TARGETS)
    share = -(-arguments.inputs // len(chosen))
    say(f"{len(chosen)} targets, {share} inputs each, with {arguments.engine}")
    failed = []
    for name in chosen:
        command = [sys.executable, "-m", f"tests.fuzz.with_{arguments.engine}", name, str(share)]
        with tempfile.TemporaryDirectory() as corpus:
            done = subprocess.run([*command, corpus], check=False, capture_output=True, text=True, preexec_fn=bound)
        say(f"{name:28} {'ok' if done.returncode == 0 else 'FOUND SOMETHING'}")
        if done.returncode:
            failed.append(name)
            say("\n".join((done.stdout + done.stderr).splitlines()[-40:]))
    return 1 if failed else 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def best_engine() -> str:
    return "atheris" if importlib.util.find_spec("atheris") else "hypothesis"


def bound() -> None:
    """Memory without bound is a finding, so it ends the process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))


def fill(corpus: Path) -> None:
    """Write the well-formed inputs to begin with."""
    from tests.fuzz.targets import seeds

    for number, seed in enumerate(seeds()):
        (corpus / str(number)).write_bytes(seed)


if __name__ == "__main__":
    sys.exit(main())
