"""The privileged side of a node: a small process without network that touches files and runs jobs for the agent.

It believes the agent nothing: what is to be written, removed or run it reads in messages that the master has signed,
which the agent only carries (ARCHITECTURE.md, A50). Read in this order: messages (what can be asked: a closed list),
frames (how it travels), authority (what the master has said), server and operations (who may ask, what is done),
job_line.
"""
