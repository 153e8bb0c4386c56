"""Makes desired state true on one node.

Read in this order: core/reconcile (what to do), core/agent (when), files with tree, staging, backups and owners (how it
is written), ledger (what is remembered), daemon (the loop), settings.
"""

import sys

if not {"rich", "structlog"} & sys.modules.keys():
    # structlog imports rich wherever it is installed: 4 MB for tracebacks that an agent never draws.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
