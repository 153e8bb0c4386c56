"""A whole mesh on one machine, below one directory: what `gnt-mesh up` runs (design, D9).

Read in this order: layout (where everything lies, and the marker), claim (whose directory is it), broker (which
nats-server, which port), bootstrap (keys, cluster config, settings files), programs (what is run), child with
tethered and notices (one program kept running), supervisor (all of them), membership and home (an agent per node of
the cluster), mesh (from nothing to ready).
Nothing here prints: what a person should read goes to a `Terminal`.
"""
