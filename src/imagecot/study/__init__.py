"""Experiments over many prompts: searches and generators beside each other, resumable."""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.study.corrections import CorrectionsRecipe as CorrectionsRecipe
    from imagecot.study.follow import run as run
    from imagecot.study.recipe import StudyRecipe as StudyRecipe

__getattr__ = attributes(__name__, {"run": "follow", "StudyRecipe": "recipe", "CorrectionsRecipe": "corrections"})
