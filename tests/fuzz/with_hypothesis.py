"""One target with hypothesis: well-formed inputs, cut, joined, bent, and plain noise."""

import sys

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, attempt, seeds

SEEDS = list(seeds())


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """One byte or stretch of a well-formed input is another's."""
    seed = draw(st.sampled_from(SEEDS))
    start = draw(st.integers(0, len(seed)))
    end = draw(st.integers(start, min(len(seed), start + 16)))
    return seed[:start] + draw(st.binary(max_size=16)) + seed[end:]


@st.composite
def joined(draw: st.DrawFn) -> bytes:
    left, right = draw(st.sampled_from(SEEDS)), draw(st.sampled_from(SEEDS))
    return left[: draw(st.integers(0, len(left)))] + right[draw(st.integers(0, len(right))) :]


def main(name: str, runs: str) -> None:
    @settings(
        max_examples=int(runs),
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(bent(), joined(), st.binary(max_size=200)))
    def run(data: bytes) -> None:
        attempt(TARGETS[name], data)

    run()


if __name__ == "__main__":
    main(*sys.argv[1:3])
