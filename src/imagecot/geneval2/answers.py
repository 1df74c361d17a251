"""How a question of GenEval 2 is asked, and how its answer may be spelt (`soft_tifa` of the reference)."""

from imagecot.geneval.prompts import NUMBER_WORDS

TEMPLATE = "{question} Answer in one word."
YES_NO = ("yes", "no")


def asked(question: str) -> str:
    """A question as a judge is asked it."""
    return TEMPLATE.replace("{question}", question)


def is_answer(answer: str) -> bool:
    """Whether an answer is yes, no, or a number word from zero to ten, in capitals or not."""
    return answer.lower() in (*YES_NO, *NUMBER_WORDS)


def spelled(answer: str) -> list[str]:
    """The spellings of an answer that count: small and capitalized, with a blank before them and without.

    Those of a number are its word and its digits. ValueError for what is no answer.
    """
    word = answer.lower()
    if not is_answer(word):
        raise ValueError(f"no answer of GenEval 2: {answer!r:.60}")
    texts = [word, word.capitalize()]
    if word in NUMBER_WORDS:
        texts.append(str(NUMBER_WORDS.index(word)))
    return [before + text for text in texts for before in ("", " ")]
