"""Pairs of a yes and a no image of one prompt."""

import json

import pytest
import torch

from imagecot.curation.dataset import RankingData, ranking_row, read_rows
from imagecot.curation.pairs import make_pairs, read_pairs
from imagecot.errors import UsageError
from imagecot.geneval.prompts import single_object_metadata

LABELS = {"apple": [True, False, True, False, False], "cup": [True, True], "chair": [False, True], "dog": [False]}


@pytest.fixture
def data(tmp_path):
    rows = []
    for name, labels in LABELS.items():
        need = single_object_metadata(name)
        for k, right in enumerate(labels):
            seed = 100 * len(rows) + k
            image, codes = torch.full((3, 8, 8), 0.9 if right else 0.1), torch.full((4,), 4000 + len(rows))
            rows.append(ranking_row(need, "orm", image, step=18, steps=18, seed=seed, label=right, codes=codes))
    RankingData(tmp_path / "orm", {}).keep(0, rows)
    return tmp_path / "orm"


def test_one_yes_and_one_no_of_each_prompt_that_has_both(data):
    rows = list(read_rows(data))
    assert rows[3].codes == [4003] * 4
    pairs = make_pairs(rows, seed=0)
    assert sorted(json.loads(pair.metadata)["include"][0]["class"] for pair in pairs) == ["apple", "chair"]
    label = {row.seed: row.label for row in rows}
    codes = {row.seed: row.codes for row in rows}
    for pair in pairs:
        assert (label[pair.chosen_seed], label[pair.rejected_seed]) == ("yes", "no")
        assert pair.chosen_codes == codes[pair.chosen_seed]
        assert pair.rejected_codes == codes[pair.rejected_seed]
    assert make_pairs(rows[::-1], seed=0) == pairs
    found = {make_pairs(rows, seed=seed)[0].rejected_seed for seed in range(12)}
    assert len(found) > 2  # other seeds choose other images
    assert len(make_pairs(rows, seed=0, per_prompt=3)) == 3  # apple has two yes, chair one
    assert len(make_pairs(rows, seed=0, per_prompt=3, most=2)) == 2
    with pytest.raises(UsageError, match="both a yes and a no"):
        make_pairs([row for row in rows if row.label == "yes"], seed=0)


def test_the_command_writes_what_reads_back(data, tmp_path, imagecot):
    code, out, _ = imagecot("curate", "pairs", "--data", str(data), "--out", "pairs", "--seed", "1")
    assert (code, out) == (0, "2 pairs of 2 prompts: pairs\n")
    kept = list(read_pairs(tmp_path / "pairs"))
    assert [pair.id for pair in kept] == [pair.id for pair in make_pairs(read_rows(data), seed=1)]
    assert kept[0].chosen.startswith(b"\x89PNG")
    assert imagecot("curate", "pairs", "--data", str(data), "--out", "pairs", "--seed", "2")[0] == 2
    assert imagecot("curate", "pairs", "--data", str(data), "--out", "x", "--per-prompt", "0")[0] == 2
