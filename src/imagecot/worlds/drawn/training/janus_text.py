"""The text side of a Janus that is trained from scratch on the drawn world: tokenizer, chat template, processor.

The chat is that of the released checkpoints (`deepseek-community/Janus-Pro-1B`). Every word of the drawn world is one
token, and so is each text that is the same in every chat.
"""

import re

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import JanusProcessor, PreTrainedTokenizerFast
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from imagecot.contracts.questions import QUESTIONS
from imagecot.geneval.prompts import NUMBER_WORDS
from imagecot.worlds.drawn.text import known_words
from imagecot.worlds.drawn.training.packing import REASONS

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
IMAGE, IMAGE_START, IMAGE_END = "<image_placeholder>", "<begin_of_image>", "<end_of_image>"
USER, ASSISTANT = "<|User|>", "<|Assistant|>"
ASK = f"\n\n{ASSISTANT}:"
DESCRIBE = "Describe this image."
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{{{{ '{USER}: ' if message['role'] == 'user' else '{ASSISTANT}: ' }}}}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}"
    f"{{{{ ('' if loop.first else '\n') + '{IMAGE}' + ('' if loop.last else '\n') }}}}"
    "{% else %}"
    "{{ content['text'].strip() if loop.length == 1 else content['text'].lstrip() if loop.first"
    " else content['text'].rstrip() if loop.last else content['text'] }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if not loop.last or add_generation_prompt %}"
    f"{{{{ '\n\n' if message['role'] == 'user' else '{EOS}' }}}}"
    "{% endif %}"
    "{% endfor %}"
    f"{{{{ '{ASSISTANT}:' if add_generation_prompt else '' }}}}"
)


def constant_texts() -> list[str]:
    """The parts of chats that are the same for every prompt; each is one token of `janus_tokenizer`."""
    texts = [f"{USER}: ", ASK, f"\n{DESCRIBE}{ASK}", f" yes{EOS}{USER}: "]
    for question in QUESTIONS:
        before, *after = (question.template + ASK).strip().split("{prompt}")
        texts += [("\n" if question.follows is None else "") + before, *after]
    return list(dict.fromkeys(texts))


def janus_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with the special tokens, the attributes and the chat template of the released Janus checkpoints.

    Each known word is one token, at the start of a text and after a blank; any other text falls back to bytes. A text
    gets the mark of its beginning, as in the released checkpoints.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words = {*known_words(), *NUMBER_WORDS, "yes", "no", "Yes", "No"}
    words |= {"at", "top", "middle", "bottom"}  # of captions that say where objects stand
    words |= {word for text in REASONS for word in re.findall(r"\w+", text)}
    tokenizer.train_from_iterator(sorted(words | {f" {word}" for word in words}), trainer)
    special = (BOS, EOS, PAD, IMAGE, IMAGE_START, IMAGE_END, USER, ASSISTANT)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in constant_texts()])
    begin = [(BOS, tokenizer.token_to_id(BOS))]
    tokenizer.post_processor = processors.TemplateProcessing(f"{BOS} $A", f"{BOS} $A $B", special_tokens=begin)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE, "boi_token": IMAGE_START, "eoi_token": IMAGE_END},
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def janus_processor(tokenizer: PreTrainedTokenizerFast, size: int, patch: int) -> JanusProcessor:
    """The processor of a Janus that sees images of `size` pixels in patches of `patch`, without a system prompt."""
    half = [0.5, 0.5, 0.5]
    seeing = JanusImageProcessorPil(size={"height": size, "width": size}, image_mean=half, image_std=half)
    return JanusProcessor(seeing, tokenizer, chat_template=CHAT_TEMPLATE, num_image_tokens=(size // patch) ** 2)
