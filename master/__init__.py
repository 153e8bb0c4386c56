"""Decides what should be true on every node.

Read in this order: core/cluster (what there is), core/plan (what goes where), core/operations (what may change),
core/fleet (who has what); then sources, store, publisher, daemon (the loop), api (operators), and cli/ and up/.
"""
