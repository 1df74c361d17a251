"""A verifier that reads images and questions in the chat of its model: P(yes) from the logits of one forward pass.

Only what the answer needs is computed: one view of the image, the language model once, and at the last
position the rows of the head that spell yes or no.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.contracts.devices import sent
from imagecot.contracts.questions import QUESTIONS, REFLECTION, Question
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.generators.attention import KeysAndValues
from imagecot.generators.language import Language
from imagecot.memory import half_of_free, in_parts
from imagecot.plain_tokenizer import AnyTokenizer
from imagecot.verifiers.answers import (
    OPEN,
    check_asked,
    continued,
    first_ids,
    marks_of,
    p_yes,
    probability_of,
    prompts_of,
    spellings,
)
from imagecot.verifiers.chat import ANSWER_TOKENS, check_room, refuse_marks
from imagecot.verifiers.exact import few_logits, logits_of
from imagecot.verifiers.turns import Layers, Read, first_turn, joined, left_padded, next_turn, write
from imagecot.verifiers.wording import Habits

if TYPE_CHECKING:
    from transformers import DynamicCache, JanusForConditionalGeneration, LlavaOnevisionForConditionalGeneration

    from imagecot.generators.janus.lean import LeanJanus
    from imagecot.verifiers.lean import Lean

_BYTES = 1 << 31
Model: TypeAlias = "LlavaOnevisionForConditionalGeneration | JanusForConditionalGeneration | Lean | LeanJanus"
Cache: TypeAlias = "DynamicCache | KeysAndValues"


@dataclass(frozen=True)
class Trainable:
    """What fine-tuning moves of a model, by parts of the names of its weights.

    eye     begins the name of the vision tower
    layers  the linear layers of the vision tower that low-rank updates go to
    idle    parts that no answer depends on
    """

    eye: str
    layers: str
    idle: tuple[str, ...]

    def is_idle(self, name: str) -> bool:
        """Whether no answer depends on a weight of this name."""
        return any(part in name for part in self.idle)


class Chat(Protocol):
    """How a family of models is asked about an image: the layout of its chat, and how it sees.

    before     what stands between the chat's mark and an answer
    end        ends an answer
    trainable  what fine-tuning moves
    """

    before: str
    end: str
    trainable: Trainable

    @property
    def start(self) -> list[int]:
        """The ids before the image."""
        ...

    @property
    def image(self) -> list[int]:
        """The ids that an image takes, with the marks around it."""
        ...

    @property
    def placeholder(self) -> int:
        """The one of them whose places the rows of the image take."""
        ...

    def asked(self, question: Question, prompt: str) -> str:
        """All that stands behind the image when a question is asked from scratch, up to where the answer begins."""
        ...

    def followed(self, question: Question) -> str:
        """What stands behind a conversation when its answer was yes and a question follows."""
        ...

    def framed(self, images: Tensor) -> Tensor:
        """What the model sees of images (B, 3, H, W) in [0, 1]: (B, 3, S, S) in [0, 1]."""
        ...

    def rows(self, images: Tensor) -> Tensor:
        """The rows (B, R, D) of the language model for images (B, 3, H, W) in [0, 1]."""
        ...

    def save(self, folder: Path) -> None:
        """Write what the chat is read from, beside the weights."""
        ...


class ChatVerifier:
    """A verifier around a vision-language model whose image stands before the text, its tokenizer and its chat.

    P(yes) is the softmax over two logits: log-sum-exp over the spellings "yes" and "Yes", and the same for
    no. A spelling that is no single token of the tokenizer does not count. Conversations have a `Read` in `own`.

    chat    the layout of its chat, and how it sees
    habits  its number format, its wording of the questions, and its advice for searches
    """

    def __init__(self, model: Model, tokenizer: AnyTokenizer, chat: Chat, habits: Habits | None = None) -> None:
        self.model, self.tokenizer, self.chat, self.habits = model.eval(), tokenizer, chat, habits or Habits()
        self.usage = Usage()
        self._marks = marks_of(tokenizer)
        before = dict.fromkeys((chat.before, ""))
        self._yes, self._no = (spellings(tokenizer, word, [*before]) for word in ("yes", "no"))
        # A small tokenizer has whole turns as tokens, which begin with the end of the one before.
        self._ends = [i for i, t in tokenizer.added_tokens_decoder.items() if str(t).startswith(chat.end)]

    @property
    def _is_own(self) -> bool:
        """Whether the language model is that of this package, not of transformers."""
        return isinstance(self.model.model.language_model, Language)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def settings(self) -> dict[str, JSON]:
        """The number format, and the wording where it is not the paper's."""
        return self.habits.settings(self.model.dtype)

    @property
    def advice(self) -> Mapping[str, Mapping[str, JSON]]:
        """The settings that it advises for searches, by the names of searches."""
        return self.habits.advice

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError for a prompt with a mark of the chat in it, or too long for a question about it."""
        for question in QUESTIONS:
            self.text(question, prompt)

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """Return P(yes) (B,) float64.

        images   (B, 3, H, W) float in [0, 1], any size; not looked at when `after` is given
        prompts  one for each image, or one for all
        after    the conversation that a follow-up continues; without it the first turn is read again

        UsageError for an image batch or prompts of the wrong shape, or a conversation that does not fit.
        """
        question = self.habits.said(question)
        if after is None:
            return self._first(images, prompts, question, keep=False)[0]
        return self._follow(question, continued(after, question, Read))

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """Like `ask`, and return the conversations too, for follow-up questions to the same images."""
        question = self.habits.said(question)
        answers, read = self._first(images, prompts, question, keep=True)
        return answers, Conversation(question, read)

    @torch.no_grad()
    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        """Ask what is wrong with images (B, 3, H, W) and return the written answers: greedy, of bounded length."""
        ids, mask = self._ask_all(images, prompts, REFLECTION)

        def write(part: slice) -> list[Reflection]:
            return self._write(self.embed(images[part], ids[part]), mask[part])

        parts = in_parts(write, len(ids), self._micro_batch(ids.shape[1] + ANSWER_TOKENS))
        return [reflection for found in parts for reflection in found]

    @torch.no_grad()
    def answer_probability(self, images: Tensor, questions: list[str], answers: list[list[str]]) -> Tensor:
        """The probability (B,) float32 of the first tokens of answers, over the whole vocabulary.

        images     (B, 3, H, W) float in [0, 1], or one (1, 3, H, W) for all questions, which is read once
        questions  as they are asked
        answers    the spellings of the answer to each; which tokens count says `first_ids`

        UsageError for other shapes, and a question that cannot be asked; ImagecotError where no token counts.
        """
        check_asked(images, questions, answers)
        spelled = [first_ids(self.tokenizer, answer) for answer in answers]
        texts = [self.text(OPEN, question) for question in questions]
        if not texts:
            return torch.empty(0)
        seen = sent(torch.tensor([[*self.chat.start, *self.chat.image]]), self.device).expand(len(images), -1)
        there = torch.ones(seen.shape, dtype=torch.bool)

        def look(part: slice) -> Layers:
            return self._read(self.embed(images[part], seen[part]), there[part], (), keep=True)[1]

        past = joined(in_parts(look, len(images), self._micro_batch(seen.shape[1])))
        ids, mask = left_padded(texts, 0, self.device)
        mask = torch.cat([there[:1].expand(len(texts), -1), mask], 1)

        def answer(part: slice) -> Tensor:
            own = part if len(images) > 1 else slice(None)
            rows = part.stop - part.start
            cache = self._cached((k[own].expand(rows, -1, -1, -1), v[own].expand(rows, -1, -1, -1)) for k, v in past)
            state = self.state(self.model.model.language_model.embed_tokens(ids[part]), mask[part], cache)
            matter = [one for own in spelled[part] for one in own]
            return probability_of(logits_of(state, self.model.lm_head.weight, None, matter), spelled[part])

        found = in_parts(answer, len(texts), self._micro_batch(mask.shape[1]))
        self.usage += Usage(judge_calls=len(texts), tokens_judged=seen.numel() + sum(map(len, texts)))
        return torch.cat(found)

    def text(self, question: Question, prompt: str) -> list[int]:
        """The ids behind the image when a question is asked from scratch; UsageError for a prompt that cannot be."""
        refuse_marks(prompt, self._marks)
        ids = self._tokens(self.chat.asked(self.habits.said(question), prompt))
        check_room(question, len(self.chat.start) + len(self.chat.image) + len(ids), self.model.config.text_config)
        return ids

    def layout(self, texts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Ids (B, L) of start, image and texts, padded on the left, and their mask (B, L)."""
        before = [*self.chat.start, *self.chat.image]
        return left_padded([before + text for text in texts], before[0], self.device, len(before))

    def embed(self, images: Tensor, ids: Tensor) -> Tensor:
        """What the language model reads (B, L, D): ids (B, L) with the rows of images (B, 3, H, W) in their places.

        One image that is expanded to B, about which as many questions are asked, is looked at once.
        """
        same = len(images) > 1 and images.stride(0) == 0
        rows = self.chat.rows(images[:1]).expand(len(images), -1, -1) if same else self.chat.rows(images)
        embeds: Tensor = self.model.model.language_model.embed_tokens(ids)
        return embeds.masked_scatter((ids == self.chat.placeholder)[..., None], rows.to(embeds.dtype))

    def state(self, embeds: Tensor, mask: Tensor, cache: "Cache | None" = None) -> Tensor:
        """The last position's state (B, D); arguments as of `states`."""
        return self.states(embeds, mask, cache, last=True)[:, -1]

    def states(self, embeds: Tensor, mask: Tensor, cache: "Cache | None" = None, *, last: bool = False) -> Tensor:
        """States (B, n, D) of embeds (B, n, D) behind the keys and values `cache`; mask, on the CPU, covers both.

        last  whether the last state alone is wanted, so that a model may leave the others out
        """
        position = sent((mask.cumsum(1) - 1).clamp_min(0)[:, -embeds.shape[1] :], embeds.device)
        states: Tensor = self.model.model.language_model(
            inputs_embeds=embeds,
            attention_mask=None if bool(mask.all()) else sent(mask.long(), embeds.device),
            position_ids=position,
            cache=cache,
            use_cache=cache is not None,
            **({"last": last} if self._is_own else {}),
        ).last_hidden_state
        return states

    @property
    def words(self) -> tuple[int, int]:
        """The ids of the first spellings of yes and no that are single tokens: what fine-tuning teaches to say."""
        return self._yes[0], self._no[0]

    def _ask_all(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Tensor]:
        """Check a request, count it, and lay it out: ids and mask (B, L)."""
        prompts = prompts_of(images, prompts)
        texts = {prompt: self.text(question, prompt) for prompt in dict.fromkeys(prompts)}
        ids, mask = self.layout([texts[prompt] for prompt in prompts])
        self.usage += Usage(judge_calls=len(prompts), tokens_judged=int(mask.sum()))
        return ids, mask

    @torch.no_grad()
    def _first(self, images: Tensor, prompts: list[str], question: Question, keep: bool) -> tuple[Tensor, Read]:
        """P(yes) (B,), and what was read; without keys and values if they are not to be kept."""
        ids, mask = self._ask_all(images, prompts, question)

        def read(part: slice) -> tuple[Tensor, Layers]:
            return self._read(self.embed(images[part], ids[part]), mask[part], (), keep)

        return first_turn(read, mask, self._micro_batch(ids.shape[1]))

    @torch.no_grad()
    def _follow(self, question: Question, after: Read) -> Tensor:
        """P(yes) (B,) to a question behind what was read and its yes."""
        text = sent(torch.tensor(self._tokens(self.chat.followed(question))), self.device)
        n = len(after.mask)
        embeds = self.model.model.language_model.embed_tokens(text).expand(n, -1, -1)
        mask = F.pad(after.mask, (0, len(text)), value=True)

        def read(part: slice, past: Layers) -> Tensor:
            return self._read(embeds[part], mask[part], past, keep=False)[0]

        answers = next_turn(read, after, self._micro_batch(mask.shape[1]))
        self.usage += Usage(judge_calls=n, tokens_judged=n * len(text))
        return answers

    def _read(self, embeds: Tensor, mask: Tensor, past: Layers, keep: bool) -> tuple[Tensor, Layers]:
        """P(yes) (B,) at the end of embeds (B, n, D) behind the keys and values `past`; mask covers both.

        keep  whether the keys and values of all that was read are returned too
        """
        cache = self._cached(past)
        answers = self._p_yes(self.state(embeds, mask, cache if keep or past else None))
        return answers, tuple((keys, values) for keys, values, *_ in cache) if keep else ()

    def _p_yes(self, state: Tensor) -> Tensor:
        """P(yes) (B,) of an answer that begins at states (B, D)."""
        head = self.model.lm_head.weight
        return p_yes(*(few_logits(state, head, None, ids) for ids in (self._yes, self._no)))

    def _write(self, embeds: Tensor, mask: Tensor) -> list[Reflection]:
        """Write an answer behind each row of embeds (B, n, D), the surest token each time."""
        cache, embed = self._cached(), self.model.model.language_model.embed_tokens
        # The table may have more rows than the tokenizer has entries.
        words = self.model.lm_head.weight[: len(self.tokenizer)].T
        written = write(
            lambda read, mask: self.state(read, mask, cache),
            embeds,
            mask,
            lambda state: (state @ words).argmax(1),
            lambda token: embed(token)[:, None],
            self._ends,
        )
        self.usage += Usage(tokens_judged=written.tokens)
        texts = self.tokenizer.batch_decode(written.rows, skip_special_tokens=True)
        answers = zip(texts, self._p_yes(written.first).tolist(), written.endless.tolist(), strict=True)
        return [Reflection(text.removeprefix(self.chat.before), p, not endless) for text, p, endless in answers]

    def _cached(self, past: Iterable[tuple[Tensor, Tensor]] = ()) -> Cache:
        """The keys and values of each layer as the language model takes them."""
        if self._is_own:
            return KeysAndValues(past)
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer, (keys, values) in enumerate(past):
            cache.update(keys, values, layer)
        return cache

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _micro_batch(self, width: int) -> int:
        """How many rows of `width` tokens fit in memory at once."""
        text = self.model.config.text_config
        numbers = 2 * text.num_hidden_layers * text.hidden_size + 8 * text.hidden_size + 3 * text.intermediate_size
        return max(1, half_of_free(self.device, _BYTES) // (width * numbers * self.model.dtype.itemsize))
