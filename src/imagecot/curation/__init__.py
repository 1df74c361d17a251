"""Ranking data: prompts, labelled images, step labels by continuation, PARM's three subsets.

from imagecot.curation import CurateOrm, run

run(CurateOrm(prompts="prompts.jsonl", output="runs/orm"))
"""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.curation.follow import Curated as Curated
    from imagecot.curation.follow import run as run
    from imagecot.curation.recipes import CurateCorrections as CurateCorrections
    from imagecot.curation.recipes import CurateExport as CurateExport
    from imagecot.curation.recipes import CurateImport as CurateImport
    from imagecot.curation.recipes import CurateOrm as CurateOrm
    from imagecot.curation.recipes import CuratePairs as CuratePairs
    from imagecot.curation.recipes import CurateParm as CurateParm
    from imagecot.curation.recipes import CuratePrm as CuratePrm
    from imagecot.curation.recipes import CuratePrompts as CuratePrompts
    from imagecot.curation.recipes import CurateRedraws as CurateRedraws
    from imagecot.curation.recipes import CurateReflection as CurateReflection
    from imagecot.curation.recipes import CurateRepairs as CurateRepairs

_KINDS = "Prompts Orm Prm Parm Pairs Reflection Repairs Corrections Redraws Export Import"
_RECIPES = {f"Curate{name}": "recipes" for name in _KINDS.split()}
__getattr__ = attributes(__name__, {"run": "follow", "Curated": "follow", **_RECIPES})
