"""Experiments over many prompts: searches and generators beside each other, resumable."""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.study.audit import AuditRecipe as AuditRecipe
    from imagecot.study.corrections import CorrectionsRecipe as CorrectionsRecipe
    from imagecot.study.follow import run as run
    from imagecot.study.recipe import StudyRecipe as StudyRecipe

_HOMES = {"run": "follow", "StudyRecipe": "recipe", "CorrectionsRecipe": "corrections", "AuditRecipe": "audit"}
__getattr__ = attributes(__name__, _HOMES)
