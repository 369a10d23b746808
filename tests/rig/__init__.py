"""The rig: everything the functional and fault tests need around the real programs.

Job servers, workers, callers and the agent itself, each in a file of its own. It drives relay by what can be seen from
outside (its sockets, its programs, its configuration) and imports nothing of relay, so that no mistake is made twice.
"""
