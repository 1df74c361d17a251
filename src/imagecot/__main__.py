"""`python -m imagecot` is `imagecot`: signals are heard from the first moment, also while the commands are read.

What the libraries load is never garbage: it is not looked through for any while it is loaded and at the end, which
takes a third of the import of torch.

Threads that wait for each other sleep, unless OMP_WAIT_POLICY says otherwise: on a machine that others use too, threads
that spin take the processors from those that they wait for.
"""

import gc
import os
import sys

from imagecot import interruption
from imagecot.errors import OUT_OF_MEMORY

_ALLOCATED = 20_000  # objects between two looks for garbage; Python's own 700 look hundreds of times while torch loads


def main() -> None:
    """Run the command line."""
    interruption.catch_signals()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # which OpenMP reads when torch is loaded
    gc.set_threshold(_ALLOCATED)
    try:
        from imagecot import cli

        cli.main()
    except interruption.Stopped as stopped:
        sys.stderr.write(f"{stopped.sentence}\n")
        sys.exit(stopped.exit_code)
    except MemoryError:
        sys.stderr.write(f"error: {OUT_OF_MEMORY}\n")
        sys.exit(1)
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
