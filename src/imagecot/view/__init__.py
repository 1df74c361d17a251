"""A page to look at any run, evaluation, curation or study: one folder that opens from disk and needs nothing else."""

from imagecot.view.folders import view

__all__ = ["view"]
