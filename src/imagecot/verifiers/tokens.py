"""A small tokenizer for a verifier trained from scratch: byte-level BPE, one token for each constant text."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from imagecot.verifiers.chat import IMAGE_TOKEN, constant_texts

DESCRIBE = " Describe this image."
END = "<|im_end|>"
PAD = "<|endoftext|>"


def build_tokenizer(corpus: Iterable[str], vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """Learn byte-level BPE from `corpus` (any other text falls back to bytes) and add the chat's constants.

    corpus      texts whose words become single tokens
    vocab_size  of the BPE part, at most; merging stops earlier when every word is one token
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in (PAD, "<|im_start|>", END, IMAGE_TOKEN)])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in [*constant_texts(), DESCRIBE]])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a checkpoint folder."""
    return PreTrainedTokenizerFast.from_pretrained(str(folder))
