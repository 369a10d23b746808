"""relay beside the peers that are installed, in alternating rounds of one run.

`python -m bench` measures, on this machine and on one disk:
  accept    durable accept, one caller, 1,000 casts unanswered: Redis XADD with appendfsync always, relay, and the
            brokers that are installed
  through   executed and retired: relay before a bare gearmand and before three, against jobs straight to one
  waiting   one caller that casts, waits for the answer and casts again: relay against the same Redis
  64 x 1    64 such callers
and with --full more callers, windows and payloads.

What is promised: the load is the same bytes of payload, the same window, the same refill and the same code
for each peer of a row; every peer starts fresh in every round, and the order turns from round to round;
every count that a peer can be asked for is checked exactly, and a run whose counts are wrong fails instead of printing
a figure. Absolute rates belong to the machine and to whatever else runs on it; the ratios are taken within a round, and
those are what may be compared.

  __main__.py  options, rounds, what is printed and kept      rows.py     what each row measures, once
  peers.py     starting and stopping relay, Redis, gearmand   load.py     the callers, a process of their own
  brokers.py   the same of the other systems                  wire.py     how each is asked, and answers
  machine.py   what a figure needs beside it to mean much     worker.py   the worker, a process of its own
  costs.py     processor time, bytes written, memory          table.py    medians, ratios and their layout; pure
  plan.py      the words of a run                             scale.py    what a backlog costs
  libraries.py what a Python service would call               inprocess.py  the same, in a process of its own
  instructions.py  how many a cast costs, two trees compared
  report.py    the figures of docs/performance.md             plots.py    its plots
"""
