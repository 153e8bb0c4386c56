"""`python -m tests.simulation`: many seeds, or one of them with its whole story.

python -m tests.simulation                          two hundred seeds from 0 on
python -m tests.simulation --seed 17 --story        what happened in one, also when all is well
python -m tests.simulation --first 1000 --count 50 --steps 300
"""

import argparse
import sys
import time

from tests.support.sim.world import World

STEPS = 40


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--first", type=int, default=0, help="the first of several seeds (%(default)s)")
    parser.add_argument("--count", type=int, default=200, help="how many seeds (%(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many things happen before calm (%(default)s)")
    parser.add_argument("--story", action="store_true", help="tell the story also when all is well")
    arguments = parser.parse_args()
    seeds = (
        [arguments.seed] if arguments.seed is not None else range(arguments.first, arguments.first + arguments.count)
    )
    started_s = time.monotonic()
    failed = [seed for seed in seeds if not is_well(seed, arguments.steps, is_told=arguments.story)]
    took_s = time.monotonic() - started_s
    sys.stdout.write(f"{len(seeds)} seeds of {arguments.steps} steps in {took_s:.1f} s, {len(failed)} failed\n")
    return 1 if failed else 0


def is_well(seed: int, steps: int, *, is_told: bool) -> bool:
    """Live through one seed; tell its story if something forbidden happened, or if asked to."""
    world = World(seed)
    reason = ""
    try:
        world.live(steps)
        world.check_calm()
    except AssertionError as error:
        reason = str(error) or repr(error)
    if reason or is_told:
        sys.stdout.write("\n".join([*world.scheduler.story, ""]))
    if reason:
        sys.stdout.write(f"seed {seed}: {reason}\nagain: make simulate SEED={seed}  (with --steps {steps})\n")
    return not reason


if __name__ == "__main__":
    sys.exit(main())
