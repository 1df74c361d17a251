"""Show-o as a verifier: its multimodal understanding (Xie et al., 2024; `inference_mmu.py` of showlab/Show-o).

A request is `mmu, soi, codes of the image, eoi, sot, USER: question ASSISTANT:`. The tokens up to eoi see each other in
both directions, and all text sees them; text is causal. The codes are those that MAGVIT-v2 encodes the pixels to.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.contracts.devices import sent
from imagecot.contracts.questions import QUESTIONS, REFLECTION, Question
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators.attention import KeysAndValues
from imagecot.generators.showo.generator import ShowoGenerator
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.generators.showo.model import Showo, understanding_attention_mask
from imagecot.generators.showo.prompting import Prompting
from imagecot.memory import half_of_free, in_parts
from imagecot.verifiers.answers import (
    OPEN,
    check_asked,
    continued,
    first_ids,
    p_yes,
    probability_of,
    prompts_of,
    spellings,
)
from imagecot.verifiers.chat import ANSWER_TOKENS, check_room, refuse_marks
from imagecot.verifiers.exact import few_logits, logits_of
from imagecot.verifiers.turns import Layers, Read, first_turn, left_padded, next_turn, write
from imagecot.verifiers.vision import resize
from imagecot.verifiers.wording import Habits

_BYTES = 1 << 31
_HIDDEN = -1e4  # added to what attention must not see
_ASKER, _ANSWERER = "USER:", "ASSISTANT:"
_BLANKS = (" ", "")  # before an answer


@dataclass(frozen=True, eq=False)
class Parts:
    """What a Show-o answers with: its transformer, the tokenizer of its images, and its text with special ids."""

    model: Showo
    image_tokenizer: MagvitV2
    prompting: Prompting

    @classmethod
    def of(cls, generator: ShowoGenerator) -> "Parts":
        """The parts of a generator, which are not copied."""
        return cls(generator.model, generator.image_tokenizer, generator.prompting)


class ShowoVerifier:
    """A verifier around a Show-o.

    P(yes) is the softmax over two logits at the last position: log-sum-exp over the spellings "yes" and "Yes", with and
    without a blank before them, and the same for no. A spelling that is no single token does not count. Images are
    encoded from their pixels, whoever drew them: so a picture that was drawn gets the answer that it gets as a file.
    Conversations have a `Read` in `own`.

    habits  its number format, its wording of the questions, and its advice for searches

    UsageError for a Show-o that sees by CLIP, or whose tokenizer has no token for yes or no.
    """

    def __init__(self, parts: Parts, habits: Habits | None = None) -> None:
        self.model, self.habits = parts.model.eval(), habits or Habits()
        self.usage = Usage()
        self._images, self._prompting = parts.image_tokenizer.eval(), parts.prompting
        if self.model.config.w_clip_vit:
            raise UsageError(
                "it answers about features of CLIP (w_clip_vit), which are not computed here; name a Show-o that reads "
                "image codes, or another verifier."
            )
        text = self._prompting.tokenizer
        from transformers import PreTrainedTokenizerFast  # takes long to import

        self._tokenizer = PreTrainedTokenizerFast(tokenizer_object=text)
        try:
            self._yes, self._no = (spellings(self._tokenizer, word, _BLANKS) for word in ("yes", "no"))
        except ImagecotError:
            raise UsageError(
                "its tokenizer has no token for yes or for no, so it was never trained to answer; name another "
                "verifier."
            ) from None
        special = [token.content for token in text.get_added_tokens_decoder().values() if token.special]
        self._marks = [*special, _ASKER, _ANSWERER]

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
            self._text(question, prompt)

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
        ids, mask = self._ask_all(images, prompts, self.habits.said(REFLECTION))
        width = ids.shape[1] + ANSWER_TOKENS
        parts = in_parts(lambda part: self._write(ids[part], mask[part]), len(ids), self._micro_batch(width))
        return [reflection for found in parts for reflection in found]

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """The codes (B, N) of images (B, 3, H, W) in [0, 1]: the short side resized, the middle square cut out."""
        size, config = self._images.config.image_size, self._images.config
        pixels = _framed(images.to(self.device, torch.float32), size)
        at_once = half_of_free(self.device, _BYTES) // (8 * config.channels * (size // config.patch_size) ** 2 * 4)
        found = in_parts(lambda part: self._images.codes(pixels[part]), len(pixels), max(1, at_once))
        none = torch.empty(0, self.model.config.num_vq_tokens, dtype=torch.int64, device=self.device)
        return torch.cat([none, *found])

    @torch.no_grad()
    def answer_probability(self, images: Tensor, questions: list[str], answers: list[list[str]]) -> Tensor:
        """The probability (B,) float32 of the first tokens of answers, over the whole vocabulary.

        images     (B, 3, H, W) float in [0, 1], or one (1, 3, H, W) for all questions, which is encoded once
        questions  as they are asked
        answers    the spellings of the answer to each, with a blank before them or without

        UsageError for other shapes, and a question that cannot be asked; ImagecotError where no token counts.
        """
        check_asked(images, questions, answers)
        both = ([blank + one.strip() for one in answer for blank in _BLANKS] for answer in answers)
        spelled = [first_ids(self._tokenizer, answer) for answer in both]
        texts = [self._text(OPEN, question) for question in questions]
        if not texts:
            return torch.empty(0)
        ids, mask = self._laid_out(self.codes(images).expand(len(texts), -1), texts)
        head = self.model.showo.lm_head

        def answer(part: slice) -> Tensor:
            state = self._state(ids[part], mask[part], None)
            matter = [one for own in spelled[part] for one in own]
            return probability_of(logits_of(state, head.weight, head.bias, matter), spelled[part])

        return torch.cat(in_parts(answer, len(texts), self._micro_batch(ids.shape[1])))

    def _text(self, question: Question, prompt: str) -> list[int]:
        """The ids from sot to where the answer begins; UsageError for a prompt that cannot be asked about."""
        refuse_marks(prompt, self._marks)
        ids = self._conversation(question, prompt)
        check_room(question, 3 + self.model.config.num_vq_tokens + len(ids), self.model.config)
        return ids

    def _conversation(self, question: Question, prompt: str) -> list[int]:
        text = question.about(prompt).strip()
        if question.follows is None:
            return self._prompting.text_ids(f"{_ASKER} \n{text} {_ANSWERER}")
        return self._conversation(question.follows, prompt) + self._followed(text)

    def _followed(self, text: str) -> list[int]:
        """The yes to the question before, and a question, as Show-o's conversations are joined."""
        return [*self._ids(" yes"), self._prompting.eos_id, *self._ids(f"{_ASKER} {text} {_ANSWERER}")]

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._prompting.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def _ask_all(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Tensor]:
        """Check a request, count it, and lay it out: ids and mask (B, L)."""
        prompts = prompts_of(images, prompts)
        texts = {prompt: self._text(question, prompt) for prompt in dict.fromkeys(prompts)}
        return self._laid_out(self.codes(images), [texts[prompt] for prompt in prompts])

    def _laid_out(self, codes: Tensor, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, L) of codes (B, N) with a text each, padded on the left; they are counted."""
        prompting = self._prompting
        seen = F.pad(prompting.image_block(prompting.image_ids(codes)), (1, 0), value=prompting.mmu_id)
        length = seen.shape[1]
        room = [prompting.pad_id] * length  # of the image, whose ids the device alone knows
        ids, mask = left_padded([room + text for text in rows], prompting.pad_id, self.device, length)
        places = mask.int().argmax(1, keepdim=True) + torch.arange(length)
        ids = ids.scatter(1, sent(places, ids.device), seen)
        self.usage += Usage(judge_calls=len(rows), tokens_judged=int(mask.sum()))
        return ids, mask

    @torch.no_grad()
    def _first(self, images: Tensor, prompts: list[str], question: Question, keep: bool) -> tuple[Tensor, Read]:
        """P(yes) (B,), and what was read; without keys and values if they are not to be kept."""
        ids, mask = self._ask_all(images, prompts, question)

        def read(part: slice) -> tuple[Tensor, Layers]:
            return self._read(ids[part], mask[part], (), keep)

        return first_turn(read, mask, self._micro_batch(ids.shape[1]))

    @torch.no_grad()
    def _follow(self, question: Question, after: Read) -> Tensor:
        """P(yes) (B,) to a question behind what was read and its yes."""
        text = sent(torch.tensor(self._followed(question.about("").strip())), self.device)
        n = len(after.mask)
        ids, mask = text.expand(n, -1), F.pad(after.mask, (0, len(text)), value=True)

        def read(part: slice, past: Layers) -> Tensor:
            return self._read(ids[part], mask[part], past, keep=False)[0]

        answers = next_turn(read, after, self._micro_batch(mask.shape[1]))
        self.usage += Usage(judge_calls=n, tokens_judged=n * len(text))
        return answers

    def _read(self, ids: Tensor, mask: Tensor, past: Layers, keep: bool) -> tuple[Tensor, Layers]:
        """P(yes) (B,) at the end of ids (B, n) behind the keys and values `past`; mask covers both.

        keep  whether the keys and values of all that was read are returned too
        """
        cache = KeysAndValues(past)
        answers = self._p_yes(self._state(ids, mask, cache if keep or past else None))
        return answers, tuple(cache) if keep else ()

    def _state(self, ids: Tensor, mask: Tensor, cache: KeysAndValues | None) -> Tensor:
        """The last position's state (B, D) of ids (B, n) behind the keys and values `cache`; mask covers both."""
        mask = sent(mask, ids.device)
        n, columns = ids.shape[1], torch.arange(mask.shape[1], device=ids.device)
        if n == len(columns):
            allowed = understanding_attention_mask(ids, self._prompting.eoi_id)
        else:  # behind the image all is causal
            allowed = (columns <= columns[-n:, None])[None, None]
        kind = self.model.dtype
        hidden = ~(allowed & mask[:, None, None, :])
        state: Tensor = self.model.showo.model(
            input_ids=ids,
            attention_mask=torch.zeros(hidden.shape, dtype=kind, device=ids.device).masked_fill(hidden, _HIDDEN),
            position_ids=(mask.cumsum(1) - 1).clamp_min(0)[:, -n:],
            cache=cache,
        )[:, -1]
        return state

    def _p_yes(self, state: Tensor) -> Tensor:
        """P(yes) (B,) of an answer that begins at states (B, D)."""
        head = self.model.showo.lm_head
        return p_yes(*(few_logits(state, head.weight, head.bias, ids) for ids in (self._yes, self._no)))

    def _write(self, ids: Tensor, mask: Tensor) -> list[Reflection]:
        """Write an answer behind each row of ids (B, n), the surest token of the text each time."""
        cache, words, head = KeysAndValues(), self._prompting.tokenizer.get_vocab_size(), self.model.showo.lm_head
        written = write(
            lambda read, mask: self._state(read, mask, cache),
            ids,
            mask,
            lambda state: F.linear(state, head.weight[:words], head.bias[:words]).argmax(1),
            lambda token: token[:, None],
            [self._prompting.eos_id],
        )
        self.usage += Usage(tokens_judged=written.tokens)
        texts = self._prompting.tokenizer.decode_batch(written.rows, skip_special_tokens=True)
        answers = zip(texts, self._p_yes(written.first).tolist(), written.endless.tolist(), strict=True)
        return [Reflection(text.strip(), p, not endless) for text, p, endless in answers]

    def _micro_batch(self, width: int) -> int:
        """How many rows of `width` tokens fit in memory at once."""
        config = self.model.config
        numbers = 2 * config.num_hidden_layers * config.hidden_size + 8 * config.hidden_size + width
        numbers += 3 * config.intermediate_size
        return max(1, half_of_free(self.device, _BYTES) // (width * numbers * self.model.dtype.itemsize))


def _framed(images: Tensor, size: int) -> Tensor:
    """Images (B, 3, H, W) as Show-o sees them (B, 3, size, size): the short side resized, the middle cut out."""
    height, width = images.shape[-2:]
    short = min(height, width)
    high, wide = (size * side // short for side in (height, width))
    top, left = (round((side - size) / 2) for side in (high, wide))
    resized = images if short == size else resize(images, high, wide)
    return resized[..., top : top + size, left : left + size]
