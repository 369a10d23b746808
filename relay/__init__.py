"""relay: a per-host store-and-forward agent for Gearman background jobs.

What it is: the root of the import package; it holds the version and nothing else.
Promises: importing it costs nothing and imports nothing.
"""

__version__ = "0.1.0"
