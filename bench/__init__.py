"""relay beside the peers that are installed, in alternating rounds of one run.

`python -m bench` measures, on this machine and on one disk:
  accept    durable accept, one caller, 1,000 casts unanswered: Redis XADD with appendfsync always, relay, and the
            brokers that are installed
  through   executed and retired: relay before a bare gearmand and before three, against jobs straight to one
  waiting   one caller that casts, waits for the answer and casts again: relay against the same Redis
  64 x 1    64 such callers
and with --full more callers, windows and payloads; what a waiting caller sees while something else goes on; a backlog
that drains, many functions, large payloads for long; the cost of doing nothing; and the floors of all this.

What is promised: the load is the same bytes of payload, the same window, the same refill and the same code for each
peer of a row; every peer starts fresh in every round, and the order turns from round to round; every stream is
bounded in time, so that a slow peer costs no more of it; every count that a peer can be asked for is checked exactly,
and a run whose counts are wrong fails instead of printing a figure. Absolute rates belong to the machine and to
whatever else runs on it; the ratios are taken within a round, and those are what may be compared.

  __main__.py  options, rounds, what is printed and kept      plan.py     the words of a run
  rows.py      all rows, and those beside peers               timing.py   one stream, timed and counted
  through.py   executed and retired                           latency.py  a waiting caller while something else goes on
  crowds.py    a backlog, many functions, large payloads      idle.py     nothing to do
  floors.py    what relay stands on                           libraries.py  what a Python service would call
  peers.py     starting and stopping relay, Redis, gearmand   brokers.py  the same of the other systems
  wire.py      how each is asked, and answers                 table.py    medians, ratios and their layout; pure
  costs.py     processor time, bytes written, memory          machine.py  what a figure needs beside it to mean much

  in processes of their own:
  load.py      callers                                        paced.py    a caller with a rhythm
  worker.py    the worker                                     raw.py, inprocess.py  SQLite, a disk, a socket; libraries

  scale.py     what a backlog costs, of up to 10,000,000 casts
  stages.py    where the processor time of a cast goes        instructions.py  how many a cast costs, trees compared
  scratch.py   the directory that a run measures in
  report.py    the figures of docs/performance.md             plots.py    its plots
  targets.py   what is to be reached
"""
