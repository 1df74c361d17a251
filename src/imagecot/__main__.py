"""`python -m imagecot` is `imagecot`."""

from imagecot.cli import main

main()
