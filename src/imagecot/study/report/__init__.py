"""The report of a study: one HTML page, and Markdown with figures, from `summary.json` (and the pictures beside it)."""

from imagecot.study.report.contents import readme_fragment
from imagecot.study.report.publish import write, write_into_readme
from imagecot.study.report.tables import score_table, with_error

__all__ = ["readme_fragment", "score_table", "with_error", "write", "write_into_readme"]
