"""Becomes another program that dies with its parent: `python tethered.py PARENT_PID PROGRAM [ARGUMENT]...`.

The kernel is asked to kill this process when its parent ends (PR_SET_PDEATHSIG), so that not even a supervisor killed
by SIGKILL leaves a process behind; the request outlives exec. It is made here, in a fresh interpreter with one thread,
and not between the supervisor's fork and exec, where code may wait for ever for a lock that another thread of the
parent held when it was copied. Two limits of the kernel: the request is about the parent's *thread*, so children are
started from the main one alone; and it comes after the fork, so that the parent may be gone already: we ask for that.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_EXECUTE = 127


def main() -> None:
    """Never returns."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit(f"{program}: cannot be tied to its parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        os._exit(CANNOT_EXECUTE)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execv(program, sys.argv[2:])
    except OSError as error:
        sys.stderr.write(f"{program}: {error.strerror}\n")
        os._exit(CANNOT_EXECUTE)


if __name__ == "__main__":
    main()
