"""Work of equal parts, one told after another."""

from collections.abc import Callable

from imagecot.watch import Progress


def counted(progress: Progress, of: int) -> Callable[[], None]:
    """What is called after each of so many parts."""
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        progress(done, of)

    return one_more
