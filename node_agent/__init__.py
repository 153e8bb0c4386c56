"""Makes desired state true on one node.

Read in this order: core/reconcile (what to do), core/agent (when), files with tree, staging, backups and owners (how it
is written), ledger (what is remembered), daemon (the loop), settings.
"""
