"""The report of a study: one HTML page, and Markdown with figures, from `summary.json` (and the pictures beside it)."""

from imagecot.study.report.contents import readme_fragment
from imagecot.study.report.publish import write, write_into_readme

__all__ = ["readme_fragment", "write", "write_into_readme"]
