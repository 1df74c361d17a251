"""How large the numbers of a request may be: what the machine can hold, not what is sensible."""

from numbers import Integral

from imagecot.errors import UsageError

MIN_SEED, MAX_SEED = -(2**63), 2**63 - 1  # a signed 64-bit integer, as torch takes it
MOST_PATHS = 100_000  # of one search
MOST_IMAGES = 100_000  # of one prompt
MOST_PROMPTS = 1_000_000
MOST_WORKERS = 1024
_SHOWN = 40  # characters of a wrong value that a message repeats


def check_whole(value: object, name: str, least: int, most: int) -> int:
    """Return a whole number from `least` to `most`; UsageError, which calls it `name`, for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{name} must be a whole number, not {shown(value)}.")
    number = int(value)
    if number < least:
        raise UsageError(f"{name} must be at least {least}, not {shown(number)}.")
    if number > most:
        raise UsageError(f"{name} must be at most {most}, not {shown(number)}.")
    return number


def check_paths(n: object) -> int:
    """Return a number of paths; UsageError for what is none."""
    if isinstance(n, int) and n < 1:
        raise UsageError(f"a search needs at least 1 path, not {shown(n)}; give a positive number.")
    return check_whole(n, "the number of paths", 1, MOST_PATHS)


def check_seed(seed: object, name: str = "the seed") -> int:
    """Return a seed that every generator of random numbers takes; UsageError for anything else."""
    return check_whole(seed, name, MIN_SEED, MAX_SEED)


def shown(value: object) -> str:
    """A wrong value as a message repeats it: its first characters, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # Python refuses to write numbers of thousands of digits
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
