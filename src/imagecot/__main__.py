"""`python -m imagecot` is `imagecot`: signals are heard from the first moment, also while the commands are read."""

import sys

from imagecot import interruption
from imagecot.errors import OUT_OF_MEMORY


def main() -> None:
    """Run the command line."""
    interruption.catch_signals()
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
