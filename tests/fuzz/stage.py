"""One stage of the fuzzing: `python -m tests.fuzz.stage guided|plain CLAIM OPTIONS... CORPUS`; see `run`.

Guided: the parsers are instrumented, and atheris adds to the corpus what reaches something new; inputs are short.
Plain: they are as they are, and inputs are made from all of the corpus.
"""

import contextlib
import sys

GUIDED, PLAIN = "guided", "plain"
#: bytes of an input
LONGEST = {GUIDED: 120, PLAIN: 400}
MEMORY_MIB = 1024


def main() -> None:
    """Run it; atheris ends the process."""
    import atheris

    stage, name, *options = sys.argv[1:]
    watched = atheris.instrument_imports(include=["relay.protocol"]) if stage == GUIDED else contextlib.nullcontext()
    with watched:
        from . import claims
    arguments = [
        f"-max_len={LONGEST[stage]}",
        # nothing is new to a parser that is not watched, and all of the corpus would be dropped
        f"-keep_seed={int(stage == PLAIN)}",
        f"-rss_limit_mb={MEMORY_MIB}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *arguments, *options], claims.CLAIMS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
