"""A benchmark as a Markdown table and as a figure."""

from pathlib import Path

from imagecot.benchmark.result import Result, Training
from imagecot.files import write_atomically


def table(result: Result) -> str:
    """Return the measurements as Markdown."""
    machine, rates = result.machine, result.matrix_gflop_per_second
    lines = [
        f"{machine.parameters / 1e6:.1f} M parameters, {machine.precision}, {machine.device}, "
        f"{machine.threads} thread(s); a matrix product gives {rates['float32']:.0f} GFLOP/s in float32 "
        f"and {rates['bfloat16']:.0f} in bfloat16; peak memory {result.peak_memory_bytes / 2**20:.0f} MiB.",
        "",
        "| paths | image tokens | prompt tokens | ms a step | ms a path and step | GFLOP/s | share of the product |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in [*result.batches, *result.image_tokens, *result.prompt_tokens]:
        lines.append(
            f"| {row.paths} | {row.image_tokens} | {row.prompt_tokens} | {1e3 * row.seconds_per_step:.1f} | "
            f"{1e3 * row.seconds_per_path_step:.1f} | {row.gflop_per_second:.0f} | {row.share_of_matrix_rate:.2f} |"
        )
    lines += ["", "| paths of a search | s | ms a path | peak memory so far, MiB |", "|--:|--:|--:|--:|"]
    for whole in result.growth:
        took = f"{whole.seconds:.2f} | {1e3 * whole.seconds_per_path:.0f}"
        lines.append(f"| {whole.n} | {took} | {whole.peak_memory_bytes / 2**20:.0f} |")
    lines += ["", f"| a step of {result.breakdown_paths} paths | ms |", "|---|--:|"]
    lines += [f"| {name} | {1e3 * part.seconds:.1f} |" for name, part in result.breakdown.items()]
    lines += ["", "| against the plain decoder | plain, s | imagecot, s | times faster |", "|---|--:|--:|--:|"]
    for name, ratio in result.against_plain.items():
        what = name if ratio.n is None else f"best of {ratio.n}, with the judge"
        lines.append(f"| {what} | {ratio.plain_seconds:.2f} | {ratio.seconds:.2f} | {ratio.ratio:.2f} |")
    if result.training:
        lines += ["", *_training(result.training)]
    return "\n".join(lines) + "\n"


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
    middle.plot(paths, [row.gflop_per_second for row in result.batches], "o-", label="a step")
    rate = result.matrix_gflop_per_second[result.machine.dtype]
    middle.axhline(rate, color="grey", linestyle="--", label="a matrix product")
    middle.set(xlabel="paths in the batch", ylabel="GFLOP/s", xscale="log", ylim=(0, None))
    middle.legend()
    right.barh(list(result.breakdown), [1e3 * part.seconds for part in result.breakdown.values()])
    right.invert_yaxis()
    right.set(xlabel=f"ms, {result.breakdown_paths} paths")
    write_atomically(file, lambda p: figure.savefig(p, format="png", dpi=110))
    pyplot.close(figure)
