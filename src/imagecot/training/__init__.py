"""Trainings: the one loop, what it keeps and records, and `run`, which follows a recipe of any of them."""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.training.follow import run

__all__ = ["run"]

__getattr__ = attributes(__name__, {"run": "follow"})
