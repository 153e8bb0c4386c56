"""`python -m tests.benchmarks`: measures, prints a table, writes JSON. `make bench` calls it."""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import aclosing
from pathlib import Path

from tests.benchmarks import cases, machine, stages
from tests.benchmarks.cases import Effort
from tests.benchmarks.results import Result, table, usage_table

QUICK = Effort(repetitions=3, idle_s=6.0)


def main() -> None:
    """Measure the floor and the mesh in one run. A missed target is shown, and is no failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="3 repetitions instead of 7, shorter idle intervals")
    parser.add_argument("--json", type=Path, default=Path(f"bench-{time.strftime('%Y-%m-%d')}.json"), metavar="FILE")
    parser.add_argument("--only", action="append", choices=cases.NAMES, metavar="NAME", help=", ".join(cases.NAMES))
    parser.add_argument("--dir", type=Path, help="measure on the file system of this directory (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gnt-mesh-bench-", dir=arguments.dir) as directory:
        facts = machine.facts(Path(directory))
        noise = machine.Noise()
        effort = QUICK if arguments.quick else Effort()
        try:
            results = asyncio.run(_measure(Path(directory), arguments.only or cases.NAMES, effort))
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.exit("ended before all was measured; nothing is written")
    facts["busy_with_others_percent"] = noise.percent()
    document = {"machine": facts, "quick": arguments.quick, "results": [result.as_json() for result in results]}
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    _print(facts, results)
    _say(f"\nwritten to {arguments.json}")


async def _measure(directory: Path, names: Collection[str], effort: Effort) -> list[Result]:
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    results = []
    async with aclosing(cases.run(directory, names, effort)) as found:
        async for result in found:
            sys.stderr.write(f"{result.name}: {result.median:.3f} {result.unit}\n")
            results.append(result)
    return results


def _print(facts: dict[str, object], results: list[Result]) -> None:
    traced = [result for result in results if "stage" in result.facts]
    shown = [result for result in results if "stage" not in result.facts]
    _say("\n".join(f"{key}: {value}" for key, value in facts.items()))
    if shown:
        _say("\n" + table(shown))
        _say("\n" + usage_table(shown))
    for files in sorted({int(str(result.facts["files"])) for result in traced}):
        _say(f"\nwhere the time of {files} of 16 KiB goes, 3 nodes, traced from outside (median):")
        _say("\n".join(stages.stage_lines([result for result in traced if result.facts["files"] == files])))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
