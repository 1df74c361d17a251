"""A benchmark as a Markdown table and as a figure."""

import textwrap
from pathlib import Path

from imagecot.benchmark.result import Result, Training
from imagecot.figures import packed, png
from imagecot.files import write_whole

_WIDTH = 120  # columns of text
# What was done in both ways.
_WORK = {"path": "one path", "paths": "{n} paths", "best_of_n": "best of {n}, with the judge"}


def table(result: Result) -> str:
    """Return the measurements as Markdown."""
    machine, rates = result.machine, result.matrix_gflop_per_second
    size = "" if machine.parameters is None else f"{machine.parameters / 1e6:.1f} M parameters, "
    how = (
        f"{size}{machine.precision}, {machine.device}, {machine.steps} steps, "
        f"{machine.threads} thread(s); a matrix product between them gives {rates['float32']:.0f} GFLOP/s in float32 "
        f"and {rates['bfloat16']:.0f} in bfloat16; peak memory {result.peak_memory_bytes / 2**20:.0f} MiB."
    )
    lines = [
        textwrap.fill(how, _WIDTH),
        "",
        "| paths | image tokens | prompt tokens | ms a step | ms a path and step | GFLOP/s | share of the product |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in [*result.batches, *result.image_tokens, *result.prompt_tokens]:
        lines.append(
            f"| {row.paths} | {row.image_tokens} | {_number(row.prompt_tokens, 0)} | "
            f"{1e3 * row.seconds_per_step:.1f} | "
            f"{1e3 * row.seconds_per_path_step:.1f} | {_number(row.gflop_per_second, 0)} | "
            f"{_number(row.share_of_matrix_rate, 2)} |"
        )
    lines += ["", "| paths of a search | s | ms a path | peak memory so far, MiB |", "|--:|--:|--:|--:|"]
    for whole in result.growth:
        took = f"{whole.seconds:.2f} | {1e3 * whole.seconds_per_path:.0f}"
        lines.append(f"| {whole.n} | {took} | {whole.peak_memory_bytes / 2**20:.0f} |")
    lines += ["", f"| a step of {result.breakdown_paths} paths | ms | share of the product |", "|---|--:|--:|"]
    for name, part in result.breakdown.items():
        lines.append(f"| {name} | {1e3 * part.seconds:.1f} | {_number(part.share_of_matrix_rate, 2)} |")
    if result.against_plain:
        lines += ["", "| against the plain decoder | plain, s | imagecot, s | times faster |", "|---|--:|--:|--:|"]
    for name, ratio in result.against_plain.items():
        what = _WORK[name].format(n=ratio.n)
        lines.append(f"| {what} | {ratio.plain_seconds:.2f} | {ratio.seconds:.2f} | {ratio.ratio:.2f} |")
    if result.training:
        lines += ["", *_training(result.training)]
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _training(row: Training) -> list[str]:
    """The lines of a table of gradients."""
    lines = [
        f"| gradient of {row.images} images ({1e3 * row.data_seconds:.1f} ms of data) | s | images a second | "
        "GFLOP/s | share of the product |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, found in row.gradients.items():
        lines.append(
            f"| {name} | {found.seconds:.3f} | {found.images_per_second:.3g} | {found.gflop_per_second:.0f} | "
            f"{found.share_of_matrix_rate:.2f} |"
        )
    return lines


def plot(result: Result, file: Path) -> None:
    """Draw seconds and rates over the batch, and where a step's time goes, into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    paths = [row.paths for row in result.batches]
    left.plot(paths, [1e3 * row.seconds_per_path_step for row in result.batches], "o-")
    left.set(xlabel="paths in the batch", ylabel="ms a path and step", xscale="log", ylim=(0, None))
    known = [(row.paths, row.gflop_per_second) for row in result.batches if row.gflop_per_second is not None]
    if known:
        middle.plot(*zip(*known, strict=True), "o-", label="a step")
    rate = result.matrix_gflop_per_second[result.rated]
    middle.axhline(rate, color="grey", linestyle="--", label="a matrix product")
    middle.set(xlabel="paths in the batch", ylabel="GFLOP/s", xscale="log", ylim=(0, None))
    middle.legend()
    right.barh(list(result.breakdown), [1e3 * part.seconds for part in result.breakdown.values()])
    right.invert_yaxis()
    right.set(xlabel=f"ms, {result.breakdown_paths} paths")
    write_whole(file, packed(png(figure, dpi=110)))
    pyplot.close(figure)
