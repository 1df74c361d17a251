"""The words of the drawn world and a byte-level BPE in which each of them is one token."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from imagecot.geneval.prompts import COLORS, NUMBER_WORDS, plural
from imagecot.worlds.drawn.captions import OPENINGS, RELATION_WORDS
from imagecot.worlds.drawn.scenes import KINDS

END_OF_TEXT = "<|endoftext|>"


def known_words() -> list[str]:
    """Every word that a caption of the drawn world can contain."""
    phrases = [
        *KINDS,
        *(plural(kind) for kind in KINDS),
        *COLORS,
        *NUMBER_WORDS[2:5],
        *OPENINGS,
        "a an and with",
    ]
    phrases += [words for choices in RELATION_WORDS.values() for words in choices]
    return sorted({word for phrase in phrases for word in phrase.split()})


def build_tokenizer() -> Tokenizer:
    """A BPE over bytes whose merges make each known word, at the start of a text or after a blank, one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=1,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(known_words(), trainer)
    return tokenizer
