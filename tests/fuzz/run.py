"""Hands a claim to atheris: `python -m tests.fuzz.run caller|upstream`; RELAY_FUZZ_RUNS inputs, RELAY_SEED repeats.

In two stages. The first fifth is guided: what makes the parser do something new is kept, and changed further. After a
hundred thousand inputs hardly anything is new any more, and to watch the parser takes most of the time; so the other
four fifths are made from what was kept, in pieces of any length, and not watched: ten times as many in a second.

Ends with 0 after all of them; what breaks the claim is written to the working directory as atheris does, and ends it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.rig.counts import seeded

from .corpus import STREAMS
from .stage import GUIDED, PLAIN


def main() -> int:
    """Run one claim; the exit code of the stage that failed, or 0."""
    claim, *options = sys.argv[1:]
    runs, rng = int(os.environ.get("RELAY_FUZZ_RUNS") or 10_000_000), seeded()
    guided = runs // 5
    with tempfile.TemporaryDirectory() as corpus:
        for number, (stream, data) in enumerate(STREAMS.items()):
            # in four pieces, and in a way of its own
            for first in (14, 2 * number % 256):
                Path(corpus, f"{stream}-{first}").write_bytes(bytes([first]) + data)
        for stage, share in ((GUIDED, guided), (PLAIN, runs - guided)):
            print(f"{claim}: {share} inputs, {stage}", flush=True)
            seed = rng.randrange(1, 1 << 31)
            command = [sys.executable, "-m", "tests.fuzz.stage", stage, claim, f"-runs={share}", f"-seed={seed}"]
            ended = subprocess.run([*command, *options, corpus], check=False).returncode
            if ended:
                return ended
    return 0


if __name__ == "__main__":
    sys.exit(main())
