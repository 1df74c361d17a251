"""The report of a study: one HTML page, and Markdown with figures, from `summary.json` (and the pictures beside it)."""

from imagecot.study.report.tables import score_table, with_error
from imagecot.study.report.write import readme_fragment, write, write_into_readme

__all__ = ["readme_fragment", "score_table", "with_error", "write", "write_into_readme"]
