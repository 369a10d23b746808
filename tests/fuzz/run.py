"""Hands a claim to atheris: `python -m tests.fuzz.run caller|upstream`; RELAY_FUZZ_RUNS inputs, RELAY_SEED repeats.

Ends with 0 after all of them; what breaks the claim is written to the working directory as atheris does, and ends it.
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["relay.protocol"]):
    from . import claims
from .corpus import STREAMS

#: bytes of an input, and of the program
LONGEST = 400
MEMORY_MIB = 1024


def main() -> None:
    """Run one claim; atheris ends the process."""
    name, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as corpus:
        for stream, data in STREAMS.items():
            for first in (0, 14):
                Path(corpus, f"{stream}-{first}").write_bytes(bytes([first]) + data)
        arguments = [
            f"-runs={os.environ.get('RELAY_FUZZ_RUNS', '10000000')}",
            f"-seed={os.environ.get('RELAY_SEED', '0')}",
            f"-max_len={LONGEST}",
            f"-rss_limit_mb={MEMORY_MIB}",
            "-print_final_stats=1",
            *options,
        ]
        atheris.Setup([sys.argv[0], *arguments, corpus], claims.CLAIMS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
