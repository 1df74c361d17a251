"""The report of a study: one HTML page, and Markdown with figures, from `summary.json` (and the pictures beside it)."""

from imagecot.report.contents import readme_fragment
from imagecot.report.publish import write

__all__ = ["readme_fragment", "write"]
