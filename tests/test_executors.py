"""Ways to start workers: Slurm, by a stand-in that runs its arrays on this machine, and Ray where it is installed."""

import os
import stat
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from imagecot.curation.follow import run
from imagecot.curation.recipes import CurateOrm
from imagecot.errors import ImagecotError, UsageError
from imagecot.execution import executors
from imagecot.execution.team import Team, carry_out
from imagecot.recipes import read
from imagecot.watch import SILENT, Watch
from test_kills import inputs
from working import EXPECTED, QUICK, kept, toy, tries

__all__ = ["inputs"]

# Runs each task of an array in the background, as Slurm would, and notes that it was asked to.
SBATCH = """#!{python}
import re, subprocess, sys
text = open(sys.argv[-1]).read()
last = int(re.search(r"--array=0-(\\d+)", text)[1])
log = re.search(r"--output=(.*)", text)[1]
for task in range(last + 1):
    with open(log.replace("%a", str(task)), "a") as file:
        one = subprocess.Popen(["sh", sys.argv[-1]], stdout=file, stderr=file, start_new_session=True)
    open({folder!r} + f"/task-{{task}}", "w").write(str(one.pid))
print("17;cluster")
"""
SQUEUE = """#!{python}
import pathlib
for file in pathlib.Path({folder!r}).glob("task-*"):
    stat = pathlib.Path(f"/proc/{{file.read_text()}}/stat")
    print("RUNNING None" if stat.exists() and stat.read_text().split()[2] != "Z" else "COMPLETED None")
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder of commands that stand in for Slurm's, first on the path."""
    monkeypatch.setattr("imagecot.execution.slurm._EVERY", 0.2)
    folder = tmp_path / "slurm"
    folder.mkdir()

    def put(name: str, text: str) -> None:
        (folder / name).write_text(text.format(python=sys.executable, folder=str(folder)))
        (folder / name).chmod(stat.S_IRWXU)

    put("sbatch", SBATCH)
    put("squeue", SQUEUE)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return put


def recipe(folder: Path, **more: object) -> CurateOrm:
    values = {"prompts": folder / "p.jsonl", "output": folder / "out", "paths": 4, "keep": 2, "on": "slurm"}
    return CurateOrm(**{**values, **more})


def test_every_executor_is_there():
    assert all(callable(executors.start(name)) for name in executors.EXECUTORS)


def test_an_unknown_one_is_refused(imagecot):
    code, _, err = imagecot("curate", "orm", "--prompts", "p", "--out", "o", "--on", "slrum")
    assert code == 2
    assert "there is no way to start workers 'slrum' (did you mean slurm?)" in err
    with pytest.raises(ValueError, match="no such way to start workers; choose one of local, slurm"):
        CurateOrm(prompts="p", output="o", on="x")


def test_without_slurm_or_ray_it_is_said_and_nothing_is_left(tmp_path, monkeypatch):
    work = toy(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("imagecot.execution.on_ray.find_spec", lambda name: None)
    for on, told in (("slurm", "there is no sbatch on this machine"), ("ray", r'pip install "imagecot\[ray\]"')):
        with pytest.raises(UsageError, match=told):
            carry_out(work, Team(2, on, pace=QUICK), SILENT, work.conclude, work.whole.read_text)
        assert not work.folder.exists()


def prompts(folder: Path) -> None:
    from imagecot.curation.prompts import prompts_of

    (folder / "p.jsonl").write_text("".join(m.text + "\n" for m in prompts_of("drawn", 1, 0)))


def test_slurm_that_takes_no_job_is_told(tmp_path, slurm):
    prompts(tmp_path)
    slurm("sbatch", "#!{python}\nimport sys; sys.exit('sbatch: error: invalid partition specified')\n")
    with pytest.raises(ImagecotError, match=r"Slurm takes no job: sbatch: error: invalid partition specified\."):
        run(recipe(tmp_path))


def test_the_script_follows_the_recipe_and_an_end_too_early_is_told(tmp_path, slurm, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prompts(tmp_path)
    slurm("sbatch", "#!{python}\nprint(17)\n")
    slurm("squeue", "#!{python}\nprint('PENDING JobHeldUser')\nprint('FAILED NonZeroExitCode')\n")
    told: list[str] = []
    put = slurm

    def tell(text: str) -> None:
        told.append(text)
        if "holds" in text:
            put("squeue", "#!{python}\nprint('FAILED NonZeroExitCode')\n")

    with pytest.raises(ImagecotError, match=r"job 17 ended before all was done; .*task-\*.log say why"):
        run(recipe(tmp_path, workers=3), watch=Watch(tell=tell))
    assert told == [
        f"Slurm has job 17, 3 tasks; follow it by: imagecot status {tmp_path}/out --watch",
        "Slurm holds tasks of job 17 (PENDING JobHeldUser); scontrol release 17 lets them go on.",
    ]
    folder = tmp_path / "out/.work/slurm"
    script = (folder / "array.sh").read_text().splitlines()
    assert "#SBATCH --array=0-2" in script and "#SBATCH --requeue" in script
    assert f"#SBATCH --chdir={tmp_path}" in script
    assert script[-1] == f"exec {sys.executable} -m imagecot run {folder}/recipe.yaml"
    assert (folder / "recipe.yaml").stat().st_mode & 0o077 == 0
    again = read(folder / "recipe.yaml")
    assert again == recipe(tmp_path, workers=1, on="local")


@pytest.mark.slow
def test_an_array_of_slurm_does_all_and_concludes(inputs, tmp_path, slurm):
    (tmp_path / "p.jsonl").write_bytes((inputs / "p.jsonl").read_bytes())
    found = run(recipe(tmp_path, workers=2))
    alone = run(recipe(tmp_path, output=tmp_path / "alone", on="local"))
    assert found.counts == alone.counts
    names = [file.relative_to(tmp_path / "alone") for file in (tmp_path / "alone").rglob("*") if file.is_file()]
    assert names and all(
        (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes() for name in names
    )
    assert not (tmp_path / "out/.work").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_actors_of_ray_share_the_work_and_one_that_dies_is_started_again(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    work = toy(tmp_path, seconds=0.2)
    (work.tries / "00004.dies").write_text("1")
    found = carry_out(work, Team(2, "ray", pace=QUICK), SILENT, work.conclude, work.whole.read_text)
    assert found == EXPECTED
    assert kept(work) == [1] * 12
    assert tries(work) == [1 + (k == 4) for k in range(12)]
    (tmp_path / "b").mkdir()
    refused = toy(tmp_path / "b")
    (refused.tries / "refuses").touch()
    with pytest.raises(UsageError, match="ask for something else"):
        carry_out(refused, Team(2, "ray", pace=QUICK), SILENT, refused.conclude, refused.whole.read_text)
