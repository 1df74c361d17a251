"""Whether a generator, a verifier or a search keeps what its protocol promises: rules that anybody can try on a class.

    from imagecot.checks import check_generator

    assert not broken(check_generator(MyGenerator()))

`imagecot check generator|verifier|search NAME` prints the same.
"""

from imagecot.checks.generators import check_generator
from imagecot.checks.named import check_named
from imagecot.checks.outcome import Outcome, broken
from imagecot.checks.searches import check_search
from imagecot.checks.verifiers import check_verifier

__all__ = ["Outcome", "broken", "check_generator", "check_named", "check_search", "check_verifier"]
