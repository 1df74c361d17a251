"""What a detector is shown: scenes that are roughened and half-formed, and annotated pictures in other places."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.generators.showo import MagvitV2
from imagecot.worlds.drawn.annotated import AnnotatedPicture, Seen
from imagecot.worlds.drawn.dataset import Example
from imagecot.worlds.drawn.detector import STRIDE
from imagecot.worlds.drawn.scenes import SIZE

_MOVED = 6
_STRETCHED = 0.25
_RECOLOURED = 0.3


def roughen(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, noise, contrast and tint of varying strength on images (B, 3, H, W) in [0, 1]; a third stay clean."""
    b = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(b, 1, 1, 1, generator=generator) * (high - low) + low

    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16).expand(3, 1, 3, 3)
    soft = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=3).to(images)
    softer = F.conv2d(F.pad(soft, (1, 1, 1, 1), mode="replicate"), kernel, groups=3).to(images)
    t = uniform(-0.5, 2).clamp(0, 2)
    mixed = torch.where(t < 1, images.lerp(soft, t.clamp(0, 1)), soft.lerp(softer, (t - 1).clamp(0, 1)))
    tint = torch.rand(b, 3, 1, 1, generator=generator) * 0.06 - 0.03
    noise = torch.randn(images.shape, generator=generator) * uniform(-0.02, 0.05).clamp(0)
    rough = ((mixed - 0.5) * uniform(0.9, 1.08) + 0.5 + tint + noise).clamp(0, 1)
    return torch.where(uniform(0, 1) < 1 / 3, images, rough)


def choose_patches(examples: list[Example], generator: torch.Generator) -> tuple[Tensor, list[dict[int, float]]]:
    """Which patches of objects are taken from them: (B, 8, 8) bool, and the share of its area that each object loses.

    Half of the images are touched. Each of their objects loses a share of its patches, uniform between none and all.
    """
    side = 2 * STRIDE
    taken = torch.zeros(len(examples), SIZE // side, SIZE // side, dtype=torch.bool)
    lost: list[dict[int, float]] = [{} for _ in examples]
    for k, example in enumerate(examples):
        if torch.rand((), generator=generator) < 0.5:
            continue
        for index, (x0, y0, x1, y1) in enumerate(example.scene.boxes):
            share = float(torch.rand((), generator=generator))
            total = replaced = 0.0
            for y in range(int(max(y0, 0)) // side * side, min(math.ceil(y1), SIZE), side):
                for x in range(int(max(x0, 0)) // side * side, min(math.ceil(x1), SIZE), side):
                    area = (min(x1, x + side) - max(x0, x)) * (min(y1, y + side) - max(y0, y))
                    total += area
                    if torch.rand((), generator=generator) < share:
                        replaced += area
                        taken[k, y // side, x // side] = True
            lost[k][index] = replaced / total
    return taken, lost


def scramble(images: Tensor, taken: Tensor, generator: torch.Generator) -> Tensor:
    """Replace the `taken` patches of images (B, 3, H, W) by patches of other pictures of the batch."""
    side, last = 2 * STRIDE, SIZE - 2 * STRIDE + 1
    source, images = images, images.clone()
    for k, row, column in taken.nonzero().tolist():
        other, v, u = (int(torch.randint(n, (), generator=generator)) for n in (len(images), last, last))
        patch = source[other, :, v : v + side, u : u + side]
        images[k, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = patch
    return images


def scramble_codes(codes: Tensor, taken: Tensor, generator: torch.Generator) -> Tensor:
    """Replace the `taken` codes (B, N) by codes of other pictures of the batch: half-formed objects, once decoded."""
    other = codes.flatten()[torch.randint(codes.numel(), codes.shape, generator=generator)]
    return torch.where(taken.flatten(1), other, codes)


def whole_enough(example: Example, lost: dict[int, float] | None = None) -> list[Seen]:
    """The objects of a scene of which some lost a share of their area (`choose_patches`).

    One that lost over 35 % is not there; one that lost over 15 % may be there or not.
    """
    scene, lost = example.scene, lost or {}
    return [
        Seen(kind=item.kind, color=item.color, box=box, sure=lost.get(index, 0.0) <= 0.15)
        for index, (item, box) in enumerate(zip(scene.items, scene.boxes, strict=True))
        if lost.get(index, 0.0) <= 0.35
    ]


def look_at(
    tokenizer: MagvitV2, pictures: Sequence[AnnotatedPicture], generator: torch.Generator
) -> tuple[Tensor, list[list[Seen]]]:
    """Annotated pictures (B, 3, 64, 64) and their objects: half mirrored, stretched and moved, some in other colours.

    There are few of them: what an annotator took for a cup is one elsewhere, too, a little wider or the other way
    round, and in the colours of another.
    """
    with torch.no_grad():
        images = tokenizer.decode_codes(torch.tensor([picture.codes for picture in pictures]))
    maps = torch.stack([_placement(picture.objects, generator) for picture in pictures])
    # affine_grid asks where a pixel comes from, on axes from -1 to 1 about the middle.
    source = torch.zeros(len(images), 2, 3)
    source[:, 0, 0], source[:, 1, 1] = 1 / maps[:, 0, 0], 1 / maps[:, 1, 0]
    source[:, :, 2] = ((SIZE / 2 - maps[:, :, 1]) / maps[:, :, 0] - SIZE / 2) / (SIZE / 2)
    grid = F.affine_grid(source, list(images.shape), align_corners=False)
    placed = F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
    objects = []
    for k, (picture, place) in enumerate(zip(pictures, maps.tolist(), strict=True)):
        channels = torch.randperm(3, generator=generator)
        recoloured = float(torch.rand((), generator=generator)) < _RECOLOURED
        if recoloured:
            placed[k] = placed[k, channels]
        objects.append([_placed(seen, place, recoloured) for seen in picture.objects])
    return placed, objects


def _placement(objects: Sequence[Seen], generator: torch.Generator) -> Tensor:
    """Where a picture's points go, per axis: (2, 2) with x' = a x + b. What stood inside stays inside."""
    place = torch.empty(2, 2)
    for axis in (0, 1):
        low = min([SIZE / 2] + [max(0.0, seen.box[axis]) for seen in objects])
        high = max([SIZE / 2] + [min(float(SIZE), seen.box[axis + 2]) for seen in objects])
        stretch, where, mirror = torch.rand(3, generator=generator).tolist()
        a = min(math.exp((2 * stretch - 1) * _STRETCHED), SIZE / max(high - low, 1.0))
        if axis == 0 and mirror < 0.5:
            a = -a
        ends = sorted((a * low, a * high))
        middle = SIZE / 2 * (1 - a)  # the shift that keeps the middle in its place
        least, most = -ends[0], SIZE - ends[1]  # those that keep the objects inside
        least, most = max(least, min(middle - _MOVED, most)), min(most, max(middle + _MOVED, least))
        place[axis] = torch.tensor([a, least + where * (most - least)])
    return place


def _placed(seen: Seen, place: list[list[float]], recoloured: bool) -> Seen:
    (ax, bx), (ay, by) = place
    x0, y0, x1, y1 = seen.box
    left, right = sorted((ax * x0 + bx, ax * x1 + bx))
    box = (left, ay * y0 + by, right, ay * y1 + by)
    return Seen(kind=seen.kind, color=None if recoloured else seen.color, box=box, sure=seen.sure)
