"""relay-cli: the operator's face, a process of its own.

One file a verb; `main` finds the verb, `places` the sockets, `ask` speaks to the agent, `formats` prints.
What stands on the way of asking a running agent imports nothing heavy: a status costs a bare Python and
little more.
"""
