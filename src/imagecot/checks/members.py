"""Whether an object has all that a protocol says."""

from imagecot.errors import ImagecotError
from imagecot.imported import meeting


def lacks(model: object, role: str, protocol: type) -> str | None:
    """What an object lacks of the protocol of a role, in a sentence; None where it has all."""
    try:
        meeting(model, role, type(model).__name__, protocol)
    except ImagecotError as error:
        return str(error)
    return None
