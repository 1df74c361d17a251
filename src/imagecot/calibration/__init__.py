"""Which settings of a search are worth their time: chosen on recorded paths of prompts that nobody is tested by.

    from imagecot.calibration import CalibrationRecipe, calibrate

    found = calibrate(CalibrationRecipe(searches=("adaptive",), generator="tiny", verifier="tiny-orm"))
    found.advice  # {"adaptive": {"threshold": 0.85, ...}}

`pools.py` draws the paths once and keeps them, a search runs on what is kept of them, `costs.py` measures what its
parts take, `compare.py` tries all settings, `choice.py` takes some of them by a rule, and `advice.py` writes them where
searches find them.
"""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.calibration.follow import Calibration as Calibration
    from imagecot.calibration.follow import calibrate as calibrate
    from imagecot.calibration.recipe import CalibrationRecipe as CalibrationRecipe

_HOMES = {"Calibration": "follow", "calibrate": "follow", "CalibrationRecipe": "recipe"}
__getattr__ = attributes(__name__, _HOMES)
