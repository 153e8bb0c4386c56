"""Decides what should be true on every node.

Read in this order: core/cluster (what there is), core/plan (what goes where), core/operations (what may change),
core/fleet (who has what); then sources, store, publisher, desired (one change at a
time), upkeep, daemon (the loop), api/ (operators), and cli/ and up/.
"""
