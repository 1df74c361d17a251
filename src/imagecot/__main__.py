"""`python -m imagecot` is `imagecot`: signals are heard from the first moment, also while the commands are read.

Threads that wait for each other sleep, unless OMP_WAIT_POLICY says otherwise: on a machine that others use too, threads
that spin take the processors from those that they wait for.
"""

import os
import sys

from imagecot import interruption
from imagecot.errors import OUT_OF_MEMORY


def main() -> None:
    """Run the command line."""
    interruption.catch_signals()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # which OpenMP reads when torch is loaded
    try:
        from imagecot import cli

        cli.main()
    except interruption.Stopped as stopped:
        sys.stderr.write(f"{stopped.sentence}\n")
        sys.exit(stopped.exit_code)
    except MemoryError:
        sys.stderr.write(f"error: {OUT_OF_MEMORY}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
