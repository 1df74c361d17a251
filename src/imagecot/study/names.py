"""Names of rows and generators for people, where a study gives them no label, and of the file with its numbers."""

SUMMARY = "summary.json"
ACRONYMS = {"orm": "ORM", "prm": "PRM", "parm": "PARM", "parm++": "PARM++", "dpo": "DPO"}


def readable(name: str) -> str:
    """A row's name for people: `parm+iterative_dpo` as "PARM + iterative DPO"."""
    words = name.replace("parm++", "parm⁺⁺").replace("+", " + ").replace("⁺⁺", "++").replace("@", " on ").split("_")
    return " ".join(ACRONYMS.get(word, word) for word in " ".join(words).split())
