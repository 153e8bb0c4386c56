"""How long until n nodes agree, what it costs, and how far that is from the floor: `python -m tests.benchmarks`.

Real parts only. In reading order: `cases` (what is measured, against which target), `mesh` (a real server, master and
agents in a directory of their own), `converge`, `roles`, `outages`, `idle` (the measurements), `floor` (the same bytes
and fsyncs with nothing else), `stages` (where the time goes, seen from outside). Below them `tap` (who sees the
receipts), `child` (processes and what they use), `swarm` (many agents in one process), `results`, `machine`.
"""
