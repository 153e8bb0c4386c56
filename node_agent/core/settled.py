"""Which files are known to be as they should be, so that a look at what is to be done costs nothing for them. Pure.

A file is settled for what was wanted, found and known of it then, and for no longer: every change of one of these puts
another value in its place, and nobody has to remember to tell.
"""

from collections.abc import Mapping

from node_agent.core.reconcile import Found, Known, Wanted
from protocol.names import ManagedPath


class Settled:
    """Forgets everything when something else holds for all files: `under` is whatever decides beside the three."""

    def __init__(self) -> None:
        self._under: object = None
        self._files: dict[ManagedPath, tuple[Wanted, Found, Known | None]] = {}

    def note(self, path: ManagedPath, want: Wanted, here: Found, known: Known | None) -> None:
        """There is nothing to do for this file, nor to note of it."""
        self._files[path] = (want, here, known)

    def others(
        self,
        wanted: Mapping[ManagedPath, Wanted],
        found: Mapping[ManagedPath, Found],
        known: Mapping[ManagedPath, Known],
        *,
        under: object,
    ) -> list[ManagedPath]:
        """Return every wanted or known path that is not settled, in order."""
        if under != self._under:
            self._under = under
            self._files.clear()
        if len(self._files) > len(wanted):
            self._files = {path: then for path, then in self._files.items() if path in wanted}
        others = {path for path in known if path not in wanted}
        for path, want in wanted.items():
            then = self._files.get(path)
            if then is None or then[0] is not want or then[1] is not found.get(path) or then[2] is not known.get(path):
                others.add(path)
        return sorted(others)
