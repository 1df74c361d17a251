"""What a prompt must be, checked against all models at once before anything is drawn."""

import unicodedata
from collections.abc import Iterable

from imagecot.contracts.prompts import Reader
from imagecot.errors import UsageError
from imagecot.imported import calling

LONGEST = 10_000  # characters


def check_prompt(prompt: object) -> str:
    """Return the prompt; UsageError where no model could do anything with it."""
    if not isinstance(prompt, str):
        raise UsageError(f"the prompt must be text, not {type(prompt).__name__}; say what to draw.")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in prompt):
        raise UsageError("the prompt is not valid UTF-8 text; check the terminal's encoding.")
    if not any(unicodedata.category(character)[0] not in "ZC" for character in prompt):
        raise UsageError("the prompt is empty; say what to draw.")
    if "\0" in prompt:
        raise UsageError("the prompt contains a null character; leave it out.")
    if len(prompt) > LONGEST:
        raise UsageError(f"the prompt has {len(prompt)} characters, more than {LONGEST}; shorten it.")
    return prompt


def check_prompts(prompts: Iterable[object], *models: object) -> None:
    """Raise UsageError for the first prompt that one of the models cannot read, naming it where there are several.

    models  of which those that know are asked (`Reader`)
    """
    asked = list(prompts)
    seen: set[str] = set()
    for prompt in asked:
        try:
            text = check_prompt(prompt)
            if text not in seen:
                for model in models:
                    if isinstance(model, Reader):
                        with calling(model, "check_prompt"):
                            model.check_prompt(text)
            seen.add(text)
        except UsageError as error:
            which = f"{str(prompt)[:60]!r}: " if len(asked) > 1 else ""
            raise UsageError(f"{which}{error}") from None
