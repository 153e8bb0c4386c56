"""The operator's command `gnt-mesh`: a pure client of the bus. It opens no file of a daemon's and decides nothing.

Read in this order: app (the commands there are), lazy (how they are loaded), failures (exit codes and error
sentences), connect (one session on the bus); then a noun: node, group, file, cluster, fleet. What they share: options
(flags and their types), change (ask for a change and wait for it), waiting (drive a goal to its end), output, tables
and shapes (text and JSON), status_view, watching and differences (the fleet, once and live).
"""

INTERRUPTED = 130


def main() -> int:
    """Run one command and return its exit code: 0 done, 1 refused or failed, 2 deadline passed, 130 interrupted."""
    try:
        from master.cli.app import root  # here, so that Ctrl-C is quiet from the first moment

        root.main()
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
