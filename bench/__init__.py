"""The core comparison: relay beside the peers that are installed, in alternating rounds of one run.

`python -m bench` measures, on this machine and on one disk:
  accept    durable accept, one caller, 1,000 casts unanswered: relay against Redis XADD, appendfsync always
  through   executed and retired: relay before a bare gearmand, against foreground jobs straight to one
  waiting   one caller that casts, waits for the answer and casts again: relay against the same Redis

What is promised: the load is the same bytes of payload, the same window, the same refill and the same code
for each peer of a row; every peer starts fresh in every round, and the order turns from round to round;
every count is checked exactly, and a run whose counts are wrong fails instead of printing a figure. Absolute
rates belong to the machine and to whatever else runs on it; the ratios are taken within a round, and those
are what may be compared.

  __main__.py  options, rounds, what is printed and kept      rows.py     what each row measures, once
  peers.py     starting and stopping relay, Redis, gearmand   load.py     the caller, a process of its own
  machine.py   what a figure needs beside it to mean much     worker.py   the worker, a process of its own
  table.py     medians, ratios and their layout; pure
"""
