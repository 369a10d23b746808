"""The soak: an agent under load while all faults happen at random, for as long as told; then quiet, and the accounts.

`tally` knows of each cast what was answered and how often it was executed. `callers` cast, each at its pace. `stage` is
what the agent stands on: job servers behind cables that can be reset, a file system of its own whose power can be cut,
a clock that can be set, a shim that fails its syncs. `faults` are drawn from, by several threads at once. `gauges`
measures what the agent takes.
"""
