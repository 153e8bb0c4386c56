"""The error tree: each type says whose fault it is, and so what a loop does with it."""


class MeshError(Exception):
    """Root of everything the mesh raises on purpose."""


class DecodeError(MeshError):
    """A peer sent something that is not a message of ours: count it, log it, drop it."""


class Refused(MeshError):
    """An operator asked for something that must not be: reply with the reason, change nothing."""


class Unavailable(MeshError):
    """The world is in the way (network, disk, a missing blob): report, try again later, slower each time."""
