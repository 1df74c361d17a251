"""How previews of unfinished paths were completed: noted wherever a verdict on one is, and nowhere else."""

import json
from dataclasses import dataclass

import pyarrow.parquet
import pytest
import torch

from imagecot.checks.toys import ToyGenerator, ToyVerifier
from imagecot.contracts.generator import Canvas, Filling
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.search import Candidate, Verdict
from imagecot.curation.dataset import RankingData, read_rows
from imagecot.curation.label import Labeller
from imagecot.errors import UsageError
from imagecot.geneval.prompts import single_object_metadata
from imagecot.registry import load
from imagecot.strategies.lines import CandidateLine, as_line
from imagecot.strategies.request import Request
from imagecot.strategies.search import carry_out, search
from imagecot.strategies.trace import Trace
from imagecot.study.pool import chosen_of
from imagecot.study.recorded import record
from imagecot.study.rows import Outcome
from test_curation import Bright

PROMPT = "a photo of a red apple"


@dataclass
class Repeating(ToyGenerator):
    """A toy of eight rows that says how it completes its previews."""

    fill: str = "repeat"
    steps = 8
    canvas = Canvas((8, 3), 16, (16, 6))

    @property
    def settings(self):
        return {"temperature": self.temperature, "fill": self.fill}


class Numbered(Repeating):
    """One whose fill is no word."""

    def __init__(self):
        super().__init__(fill=3)


def verdicts(trace: Trace) -> set[tuple[bool, str | None]]:
    return {(v.step < trace.steps, v.fill) for candidate in trace.candidates for v in candidate.verdicts}


@pytest.mark.parametrize("strategy", ["parm", "stepwise"])
def test_a_search_notes_the_fill_of_unfinished_paths_and_reads_it_back(tmp_path, strategy):
    assert isinstance(Repeating(), Filling)
    trace = search(PROMPT, generator=Repeating(), verifier=ToyVerifier(), strategy=strategy, n=4, folder=tmp_path / "a")
    assert verdicts(trace) == {(True, "repeat"), (False, None)}
    again = Trace.load(tmp_path / "a")
    assert [c.verdicts for c in again.candidates] == [c.verdicts for c in trace.candidates]
    text = (tmp_path / "a" / "trace.jsonl").read_text()
    assert '"fill": "repeat"' in text
    assert '"fill": null' not in text
    plain = search(PROMPT, generator=ToyGenerator(), verifier=ToyVerifier(), strategy=strategy, n=4)
    assert verdicts(plain) == {(True, None), (False, None)}


def test_a_verdict_without_a_fill_is_written_as_it_always_was():
    candidate = Candidate(1, verdicts=[Verdict(2, "clarity", 0.5), Verdict(3, "clarity", 0.5, "draft")])
    line = json.loads(json.dumps(as_line(candidate)))
    assert line["verdicts"] == [
        {"step": 2, "question": "clarity", "p_yes": 0.5},
        {"step": 3, "question": "clarity", "p_yes": 0.5, "fill": "draft"},
    ]
    assert CandidateLine.model_validate(line).candidate().verdicts == candidate.verdicts


def test_a_study_keeps_the_fill_of_a_potential():
    for generator, fill in ((Repeating(), "repeat"), (ToyGenerator(), None)):
        recorded = record(generator, PROMPT, path_seeds(5, 4))
        request = Request(PROMPT, recorded, ToyVerifier(), "parm", 4, 5, {})
        outcome = chosen_of(recorded, request, carry_out(request))
        found = [(path.potential is not None, path.fill) for path in outcome.paths]
        assert {one for said, one in found if said} == {fill}
        written = outcome.model_dump(mode="json", exclude_unset=True)
        assert any("fill" in path for path in written["paths"]) == (fill is not None)
        assert Outcome.model_validate_json(json.dumps(written)) == outcome


def test_curated_previews_say_their_fill_and_older_data_have_none(tmp_path):
    prompts = [single_object_metadata(name) for name in ("apple", "cup")]
    for generator, fill in ((Repeating(), "repeat"), (ToyGenerator(), None)):
        labeller = Labeller(generator, Bright(0.5), 4, 4, 1)
        rows = [*labeller.prm(prompts)]
        if fill:
            rows += labeller.parm(prompts)
        assert {row.fill for row in rows if row.step < row.steps} == {fill}
        assert {row.fill for row in rows if row.step == row.steps} == {None}
        folder = tmp_path / str(fill)
        data = RankingData(folder, {"kind": "test"})
        data.keep(0, rows)
        assert [row.fill for row in read_rows(folder)] == [row.fill for row in rows]
    table = pyarrow.parquet.read_table(data.shard(0)).drop_columns(["fill"])
    pyarrow.parquet.write_table(table, data.shard(0))
    assert {row.fill for row in read_rows(folder)} == {None}


def test_a_fill_that_is_no_word_is_refused():
    with pytest.raises(UsageError, match="its fill must be text, not 3"):
        load("generator", f"{__name__}:Numbered")


torch.set_num_threads(1)
