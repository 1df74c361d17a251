"""What is tried of a generator's paths: each depends on its own seed, prompt and codes, whatever stands beside it."""

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor

from imagecot.checks.drawing import Subject, copied, differing, look_alike
from imagecot.checks.outcome import Remark, Rule
from imagecot.contracts.generator import Predictor
from imagecot.contracts.paths import Paths, finish, states
from imagecot.contracts.randomness import fork_seeds, path_seeds
from imagecot.contracts.tree import Tree, leaves, mapped

_MOST_PATHS = 300  # that are drawn so as to exceed one forward pass
_NEXT = 2  # steps that are drawn where not all are
_OWN = "keep what belongs to each path in `own`, and what all share in `shared`"
_ALONE = "let every number depend on the path's own seed, step and position (imagecot.contracts.uniforms)"


def the_same_seed_draws_the_same(subject: Subject) -> str | None:
    """Drawn again, paths of the same seeds have the same codes at every step."""
    for step, codes in enumerate(subject.codes(subject.start())):
        if differing(codes, subject.expected[step]):
            return f"the same seeds drew other codes the second time (step {step}); {_ALONE}."
    return None


def a_path_is_the_same_in_any_batch(subject: Subject) -> str | None:
    """Three paths in a batch, two of them in another order, and one alone have the same codes."""
    together = subject.expected
    for rows in ([0], [1], [2, 1]):
        for step, codes in enumerate(subject.codes(subject.start(rows))):
            wrong = differing(codes, together[step][rows])
            if wrong:
                size = "alone" if len(rows) == 1 else f"in a batch of {len(rows)}"
                return f"path {rows[wrong[0]]} has other codes {size} than in a batch of 3 (step {step}); {_ALONE}."
    return None


def prompts_can_be_mixed(subject: Subject) -> str | None:
    """Paths of several prompts in one batch have the codes that they have alone."""
    mixed = [subject.prompts[k] for k in (1, 0, 1)]
    together = subject.last(subject.generator.start(mixed, subject.seeds))
    for row, prompt in enumerate(mixed[:2]):
        alone = subject.last(subject.generator.start([prompt], subject.seeds[[row]]))
        if differing(alone, together[[row]]):
            return (
                f"path {row} of prompts {mixed} has other codes than alone; let `prompt_index` say which of `shared` "
                "is its."
            )
    return None


def micro_batches_change_nothing(subject: Subject) -> str | Remark | None:
    """More paths than fit into one forward pass have the codes that they have in two batches."""
    most = subject.generator.paths_per_pass
    if most + 2 > _MOST_PATHS:
        return Remark(f"one pass takes {most} paths, so that no batch was split; try it with less memory.")
    seeds = path_seeds(3, most + 2)
    whole = _first_steps(subject, seeds)
    halves = zip(*(_first_steps(subject, part) for part in seeds.split(most // 2 + 1)), strict=True)
    for step, (codes, parts) in enumerate(zip(whole, halves, strict=True)):
        wrong = differing(torch.cat(parts), codes)
        if wrong:
            return (
                f"of {most + 2} paths, where one pass takes {most}, path {wrong[0]} has other codes than in a smaller "
                f"batch (step {step + 1}); give each part its own rows of codes, seeds and `own`."
            )
    return None


def a_fork_goes_on_as_its_path(subject: Subject) -> str | None:
    """Two forks under the seed of their path, made at every step, have its codes."""
    state = subject.start([0])
    for step in range(1, len(subject.expected)):
        state = subject.generator.advance(state.select([0, 0]))
        if differing(copied(state), subject.expected[step][[0, 0]]):
            return (
                f"forks made after step {step - 1} under the same seed have other codes than their path after step "
                f"{step}; {_OWN}."
            )
    return None


def forks_follow_their_new_seeds(subject: Subject) -> str | None:
    """Forked at step 0 under new seeds, paths are those of these seeds; forked later they differ."""
    seeds = fork_seeds(subject.seeds[[0]], 3)
    forked = subject.last(subject.start([0]).select([0] * 3, seeds=seeds))
    if differing(forked, subject.last(subject.generator.start([subject.prompts[0]], seeds))):
        return "forks at step 0 under new seeds are not the paths of these seeds; look at the seeds at every step."
    if len(forked.unique(dim=0)) == 1:
        return f"three paths of different seeds have the same codes; {_ALONE}."
    state = subject.start([0])
    for _ in range((subject.generator.steps - 1) // 2):
        state = subject.generator.advance(state)
    if len(subject.last(state.select([0] * 3, seeds=seeds)).unique(dim=0)) == 1:
        return f"three forks under new seeds, made after step {state.step}, are all the same; {_ALONE}."
    return None


def paths_can_be_selected(subject: Subject) -> str | None:
    """Reordered, doubled and thinned out at every step, paths keep their codes and their previews."""
    state, order = subject.start(), [0, 1, 2]
    for step in range(1, len(subject.expected)):
        if len(state.select([])) != 0:
            return f"select([]) after step {step - 1} leaves paths; return none."
        # To the end goes a fork of the first path, whose own row then leaves by a mask.
        state = state.select([0, 2, 1, 0]).select(torch.tensor([False, True, True, True]))
        order = [order[2], order[1], order[0]]
        state = subject.generator.advance(state)
        wrong = differing(copied(state), subject.expected[step][order])
        if wrong:
            return f"path {order[wrong[0]]} has other codes after step {step} once paths were reordered; {_OWN}."
    return None


def previews_belong_to_their_paths(subject: Subject) -> str | None:
    """The preview of a path is the same alone, in a batch and in another order."""
    for state in states(subject.generator, subject.start()):
        images = subject.generator.preview(state)
        for rows in ([2, 0, 1], [1]):
            if not look_alike(subject.generator.preview(state.select(rows)), images[rows]):
                return f"the previews of paths {rows} after step {state.step} are not those in the whole batch; {_OWN}."
    return None


def paths_can_be_resumed(subject: Subject) -> str | None:
    """Entered again after each step, from their codes alone, paths go on as they would have."""
    expected = subject.expected
    for step in range(len(expected)):
        state = subject.generator.resume([subject.prompts[0]], subject.seeds, expected[step].clone(), step)
        if state.step != step or differing(copied(state), expected[step]):
            return f"resume after step {step} returns other codes or step {state.step}; take what is given."
        # To the end from the beginning and the middle; elsewhere what is wrong shows in the next steps.
        far = step in (0, len(expected) // 2)
        for later in range(step + 1, len(expected) if far else min(step + 1 + _NEXT, len(expected))):
            state = subject.generator.advance(state)
            if differing(copied(state), expected[later]):
                return (
                    f"paths resumed after step {step} have other codes after step {later}; compute from the codes "
                    "what `own` held then."
                )
    return None


def resumed_paths_show_what_they_showed(subject: Subject) -> str | None:
    """Entered again after each step they have the previews that they had; a `Predictor` need not."""
    if isinstance(subject.generator, Predictor):
        return None
    state = subject.start()
    for step in range(1, len(subject.expected)):
        state = subject.generator.advance(state)
        codes = subject.expected[step].clone()
        again = subject.generator.resume([subject.prompts[0]], subject.seeds, codes, step)
        if not look_alike(subject.generator.preview(again), subject.generator.preview(state)):
            return f"paths resumed after step {step} have other previews than before; show what the codes say."
    return None


def previews_change_nothing(subject: Subject) -> str | None:
    """Paths whose previews are looked at, twice after every step, have the codes of those that nobody looks at."""
    state = subject.start()
    for step in range(1, len(subject.expected)):
        state = subject.generator.advance(state)
        if differing(copied(state), subject.expected[step]):
            return f"paths that were looked at have other codes after step {step}; let `preview` change nothing."
        once, again = (subject.generator.preview(state).clone() for _ in range(2))
        if not look_alike(once, again):
            return f"two previews of the same paths after step {step} differ; let `preview` change nothing."
    return None


def older_paths_can_be_taken_up(subject: Subject) -> str | None:
    """Nothing is modified in place or kept elsewhere: an older `Paths` goes on as it did the first time."""
    passed, kept = [], []
    for state in chain([start := subject.start()], states(subject.generator, start)):
        passed.append(state)
        kept.append((copied(state), mapped(state.own, lambda tensor: tensor.detach().clone())))
    for step, (state, (codes, own)) in enumerate(zip(passed, kept, strict=True)):
        if differing(copied(state), codes) or not _equal(state, own):
            return f"the paths of step {step} were modified later on; return new tensors instead of writing into them."
    for step in reversed(range(len(passed) - 1)):
        if differing(copied(subject.generator.advance(passed[step])), kept[step + 1][0]):
            return f"taken up again, the paths of step {step} drew other codes; keep nothing of paths but in `Paths`."
    return None


def the_last_preview_is_the_image(subject: Subject) -> str | None:
    """The preview of finished paths is what `decode` gives of their codes."""
    state = finish(subject.generator, subject.start())
    if not look_alike(subject.generator.preview(state), subject.generator.decode(state.codes)):
        return "the preview of finished paths is not what decode returns of their codes; return that."
    return None


def no_step_follows_the_last(subject: Subject) -> str | None:
    """`advance` of finished paths raises an exception."""
    state = finish(subject.generator, subject.start([0]))
    try:
        subject.generator.advance(state)
    except Exception:
        return None
    return "advance of finished paths returns something; raise a ValueError."


def _first_steps(subject: Subject, seeds: Tensor) -> list[Tensor]:
    """The codes of paths of seeds (B,) at their first steps."""
    state, found = subject.generator.start([subject.prompts[0]], seeds), []
    for _ in range(min(subject.generator.steps, _NEXT)):
        state = subject.generator.advance(state)
        found.append(copied(state))
    return found


def _equal(state: Paths, own: Tree) -> bool:
    """Whether what belongs to paths is what it was."""
    return all(torch.equal(now, before) for now, before in zip(leaves(state.own), leaves(own), strict=True))


def rules(before: tuple[Callable[[Subject], str | Remark | None], ...]) -> tuple[Rule, ...]:
    """The rules of paths; those in `before` must be kept for them to mean anything."""
    seeded = (*before, the_same_seed_draws_the_same)
    alone = (*seeded, a_path_is_the_same_in_any_batch)
    return (
        Rule(the_same_seed_draws_the_same, before),
        Rule(a_path_is_the_same_in_any_batch, seeded),
        Rule(prompts_can_be_mixed, alone),
        Rule(micro_batches_change_nothing, alone),
        Rule(a_fork_goes_on_as_its_path, alone),
        Rule(forks_follow_their_new_seeds, alone),
        Rule(paths_can_be_selected, alone),
        Rule(paths_can_be_resumed, seeded),
        Rule(older_paths_can_be_taken_up, seeded),
        Rule(previews_change_nothing, seeded),
        Rule(resumed_paths_show_what_they_showed, (*seeded, paths_can_be_resumed, previews_change_nothing)),
        Rule(previews_belong_to_their_paths, (*alone, previews_change_nothing)),
        Rule(the_last_preview_is_the_image, seeded),
        Rule(no_step_follows_the_last, before),
    )
