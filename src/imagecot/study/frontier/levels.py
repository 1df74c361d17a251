"""Scores from shares of right images, one a prompt: the mean over tasks of the mean over prompts, as GenEval's is."""

import math
from collections.abc import Mapping

from imagecot.statistics.clustered import ratio_error
from imagecot.study.frontier.summary import Level

NORMAL = 1.96  # standard errors within which 95 % of a normal distribution lie
Values = Mapping[int, float]  # by the number of the prompt


def level(values: Values, tasks: Mapping[int, str]) -> Level:
    """The score of values by prompt; no error where a task has a single prompt.

    tasks  the task of each prompt
    """
    by_task: dict[str, list[float]] = {}
    for number, value in values.items():
        by_task.setdefault(tasks[number], []).append(value)
    mean = sum(sum(found) / len(found) for found in by_task.values()) / len(by_task)
    errors = [ratio_error(found, [1.0] * len(found)) for found in by_task.values()]
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return Level(value=mean)
    error = math.hypot(*known) / len(by_task)
    return Level(value=mean, standard_error=error, low=mean - NORMAL * error, high=mean + NORMAL * error)


def minus(a: Values, b: Values) -> dict[int, float]:
    """The paired differences on the prompts that both have."""
    return {number: value - b[number] for number, value in a.items() if number in b}
