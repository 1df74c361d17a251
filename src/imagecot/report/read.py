"""Reading the summary of a study, whose report is asked for: what it holds is checked, and where its pictures are."""

import math
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import from_json

from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.naming import inside
from imagecot.reading import phrases, read_text
from imagecot.study.names import SUMMARY
from imagecot.study.summary import Summary

ADVICE = "run the study's command again"


def read(folder: Path) -> Summary:
    """Read a study's folder; UsageError where it is none of a study, ImagecotError for a damaged or empty summary."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; give the folder of a study.")
    file = folder / SUMMARY
    if not file.exists():
        raise UsageError(f"{folder} holds no study ({SUMMARY} is missing); run imagecot study first.")
    try:
        values = _without_nan(from_json(read_text(file, advice=ADVICE)))
    except ValueError as error:
        raise ImagecotError(f"{file} is damaged (not valid JSON: {error}); {ADVICE}.") from None
    if isinstance(values, dict) and "ways" in values and "rows" not in values:
        raise UsageError(f"{folder} holds a study of corrections, whose report is {folder / 'table.md'}; read that.")
    try:
        summary = Summary.model_validate(values)
    except ValidationError as error:
        raise ImagecotError(f"{file} is not the summary of a study ({phrases(error)}); {ADVICE}.") from None
    if not summary.methods:
        raise ImagecotError(f"{file} has no scores yet; let the study finish a few prompts first.")
    for exhibit in summary.gallery:
        for name, path in exhibit.images.items():
            if inside(folder, path) is None:
                raise ImagecotError(
                    f"{file}: the gallery's image {path!r} of {name!r} leads out of {folder}; {ADVICE}."
                )
    return summary


def _without_nan(value: JSON) -> JSON:
    """The same with None for NaN, as earlier versions wrote it."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
