"""A module of somebody else, with the least that an object of each role can be, and what can be wrong with one."""

SOURCE = """
from pydantic import BaseModel

from imagecot.contracts import Canvas, Usage

class Draws:
    steps, rows_per_path, paths_per_pass, canvas = 2, 1, 4, Canvas((2, 3), 5, (8, 12))

    def __init__(self, device="cpu", dtype=None):
        self.settings = {"device": str(device), "dtype": str(dtype)}

    def start(self, prompts, seeds): ...
    def resume(self, prompts, seeds, codes, step): ...
    def advance(self, paths): ...
    def preview(self, paths): ...
    def decode(self, codes): ...

class Judges:
    settings, usage = {}, Usage()

    def ask(self, images, prompts, question, after=None): ...
    def begin(self, images, prompts, question): ...

class Finds:
    name, classes = "finds", ("cup",)

    def detect(self, images): ...
    def record(self): ...

class Chooses:
    class Settings(BaseModel):
        pass

    needs = frozenset()

    def paths(self, n): ...
    def choose(self, run): ...
    def replay(self, recorded, settings): ...

class Lives:
    name, classes, judges, words = "lives", ("cup",), ("finds",), None

    def prompts(self): ...
    def training_prompts(self, per_task, seed): ...
    def load_judges(self, name, colors=None): ...

def judging(**given):
    found = Judges()
    found.settings = {name: str(value) for name, value in given.items()}
    return found

THERE = Judges()
number = 3

class Deaf(Judges):
    ask = None

class Blank:
    pass

class Broken(Judges):
    def __init__(self):
        raise OSError("the disk\\nis gone")

class Leaves(Judges):
    def __init__(self):
        raise SystemExit(3)

class Needy(Judges):
    def __init__(self, vocabulary):
        pass

class Secret(Judges):
    @property
    def settings(self):
        raise RuntimeError("nobody told me")

class Careful(Judges):
    def __init__(self):
        from imagecot.errors import UsageError

        raise UsageError("set the key first.")
"""
CLASSES = {"generator": "Draws", "verifier": "Judges", "detector": "Finds", "search": "Chooses", "world": "Lives"}
