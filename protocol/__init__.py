"""What is said on the wire. Both daemons import this package; it imports neither.

Read in this order: names, messages, subjects, permissions (who may say what), codec, bus (what each side
needs), nats_bus (those needs over NATS), durable (what an acknowledgement means), identity (keys).
SPEC.md says the same in prose and tables, complete enough to write a second agent.
"""
