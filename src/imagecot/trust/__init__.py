"""Whether a judge is to be trusted, tried on labelled pictures before a long run.

    from imagecot.trust import check_judge

    report = check_judge("tiny-orm")
    print(report.trusted, report.sentence)

`imagecot judge check NAME` prints the same as a table.
"""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.trust.check import check_judge
    from imagecot.trust.findings import Finding, Limit, Report

__all__ = ["Finding", "Limit", "Report", "check_judge"]

# torch is imported where something is checked.
__getattr__ = attributes(
    "imagecot.trust",
    {"Finding": "findings", "Limit": "findings", "Report": "findings", "check_judge": "check"},
)
