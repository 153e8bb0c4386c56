"""The real decisions of master and agents in a mesh where everything goes wrong, checked at every step.

Forbidden at any time: a node's file goes back to an older generation; a secret is written on, or kept in a backup of,
a node of which the master has heard that it gave them all back; a path is removed that the node has been told to have,
or while a list is missing that might have it, or that the mesh did not write; a receipt for what is not on the disk;
a plan for the node that holds the sources; a touch on a file that is not managed. After calm: every node holds what it
should and nothing more, has said so, and has no errors. The rules are in tests/support/sim/watcher.py.

A failure prints its seed; `make simulate SEED=17` tells the story.
"""

import pytest

from tests.support.sim.scheduler import Violation
from tests.support.sim.world import PATHS, World, run
from tests.support.values import found_as, found_file

SHORT_SEEDS, SHORT_STEPS = 250, 40
LONG_SEEDS, LONG_STEPS = 8, 300
BATCH = 25


@pytest.mark.parametrize("first", range(0, SHORT_SEEDS, BATCH))
def test_nothing_forbidden_happens_and_after_calm_all_agree(first: int) -> None:
    for seed in range(first, first + BATCH):
        run(seed, SHORT_STEPS)


@pytest.mark.parametrize("seed", range(1_000_000, 1_000_000 + LONG_SEEDS))
def test_long_lives_end_well_too(seed: int) -> None:
    run(seed, LONG_STEPS)


def test_a_seed_tells_the_same_story_twice() -> None:
    first, second = run(17, SHORT_STEPS), run(17, SHORT_STEPS)

    assert first.scheduler.story == second.scheduler.story
    assert len(first.scheduler.story) > SHORT_STEPS


def test_much_really_happens() -> None:
    """A simulation in which everything is refused, or everybody is dead, proves nothing."""
    told = "\n".join("\n".join(run(seed, SHORT_STEPS).scheduler.story) for seed in range(20))

    for sign in (
        "publishes generation",
        "is killed",
        "is cut off",
        "loses everything",
        "master_candidate=True",
        "by hand",
    ):
        assert told.count(sign) >= 5, sign


def calm_world() -> World:
    world = World(1)
    world.check_calm()
    return world


def test_the_end_notices_a_node_that_differs() -> None:
    world = calm_world()
    disk = world.nodes[world.master.config.node("node3").name].disk
    disk.files[PATHS[0]] = found_file("unnoticed")

    with pytest.raises(Violation, match="node3 does not hold /etc/a"):
        world._check_node(world.master.config.node("node3"))


def test_the_watchers_notice_a_false_receipt() -> None:
    world = calm_world()
    name = world.master.config.node("node3").name
    world.nodes[name].disk.files[PATHS[0]] = found_file("unnoticed")

    with pytest.raises(Violation, match="the master believes in all 1, but the disk lacks"):
        world._check_now(name)


def test_the_watchers_notice_a_secret_that_stayed() -> None:
    world = calm_world()
    name = world.master.config.node("node3").name
    (secret,) = (entry for entry in world.master.manifests["master-candidates"].files if entry.path == PATHS[1])
    world.nodes[name].disk.files[PATHS[1]] = found_as(secret)

    with pytest.raises(Violation, match="node3: /etc/b still holds a secret"):
        world._check_now(name)
