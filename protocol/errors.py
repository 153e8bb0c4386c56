"""The error tree: each type says whose fault it is, and so what a loop does with it."""


class MeshError(Exception):
    """Root of everything the mesh raises on purpose."""


class DecodeError(MeshError):
    """A peer sent something that is not a message of ours: count it, log it, drop it."""


class Refused(MeshError):
    """An operator asked for something that must not be: reply with the reason, change nothing."""


class Deposed(Refused):
    """Another node has become the master: this one must end, and starting it again does not help."""


class Unavailable(MeshError):
    """The world is in the way (network, disk, a missing blob): report, try again later, slower each time."""


class Unreachable(Unavailable):
    """Who should be asked is not there: nothing was heard, and so nothing was done."""


class NoAnswer(Unavailable):
    """Something was asked and not answered: whether it was heard, and done, is not known."""
