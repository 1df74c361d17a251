"""Chat templates of checkpoints without transformers, which renders them in the same sandbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from imagecot.contracts.values import JSON

_CHAT = frozenset(("messages", "add_generation_prompt"))
# What transformers adds to the sandbox; a template that uses one of them is left to it.
_ADDED = ("tojson", "raise_exception", "strftime_now", "dict(", "namespace(")


@dataclass(frozen=True)
class ChatTemplate:
    """A template that reads turns, whether an answer is to begin, and special tokens by their names."""

    template: Template
    tokens: Mapping[str, str]

    def render(self, messages: Sequence[JSON]) -> str:
        """The text of turns, up to where an answer begins."""
        return self.template.render(messages=messages, add_generation_prompt=True, **self.tokens)


def read_template(text: str, tokens: Mapping[str, str]) -> ChatTemplate | None:
    """The template of a text; None where transformers is needed to render it.

    tokens  special tokens by names such as bos_token
    """
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    try:
        asked = meta.find_undeclared_variables(sandbox.parse(text))
        template = sandbox.from_string(text)
    except TemplateError:
        return None
    plain = asked <= _CHAT | tokens.keys() and not any(name in text for name in _ADDED)
    return ChatTemplate(template, tokens) if plain else None
