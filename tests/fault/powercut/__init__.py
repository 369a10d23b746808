"""The power-cut machine: what is left on the disk when the power goes at any moment, and whether it is enough.

`recorder.c` is preloaded into the unmodified agent and writes down, in order, what it does to the files of its spool
and what it sends and receives. `recording` runs the agent so, under `load`. `disk` is a model of a file system: what
must be there after a power cut, and what may be, be missing, be torn or be older. `custody` reads from the same record
what had been promised at any moment. `inspection` opens a spool as the agent does at its start. `survey` walks a
recording, cuts the power at each step, and compares. `mutants` are agents made wrong on purpose, to see that it sees.
"""
