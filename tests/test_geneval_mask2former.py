"""mmdet's processing around Mask2Former, against slow plain code, and the whole detector on small random networks."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from imagecot.contracts.detector import Detections, Detector
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval import mask2former, mmdet_weights
from imagecot.geneval.detection import judge
from imagecot.geneval.mask2former import Mask2FormerClip, detector_name, instances, mask_boxes, prepare, sizes
from imagecot.geneval.mmdet_weights import mmdet_config
from imagecot.geneval.prompts import COLORS, OBJECT_NAMES
from test_geneval_clip_colors import small_clip
from test_geneval_mmdet_weights import mmdet_state, small_config, small_mask2former

MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])

torch.set_num_threads(1)  # a network without training is unsure, and threads round in another order


def plain_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resizing (H, W) by the definition: pixel centres, edges repeated, no antialiasing."""

    def axis(new: int, old: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0)
        low = at.astype(int)
        return low, np.minimum(low + 1, old - 1), at - low

    (y0, y1, fy), (x0, x1, fx) = axis(height, image.shape[0]), axis(width, image.shape[1])
    rows = image[y0] * (1 - fy)[:, None] + image[y1] * fy[:, None]
    return rows[:, x0] * (1 - fx) + rows[:, x1] * fx


def plain_instances(class_logits: np.ndarray, mask_logits: np.ndarray, height: int, width: int) -> list[tuple]:
    """(label, box, score, mask logits at the original size), most probable first."""
    scale = min(1333 / max(height, width), 800 / min(height, width))
    high, wide = int(height * scale + 0.5), int(width * scale + 0.5)
    padded = -(-high // 32) * 32, -(-wide // 32) * 32
    pairs = []
    for query, logits in enumerate(class_logits.astype(np.float64)):
        e = np.exp(logits - logits.max())
        pairs += [(p, query, label) for label, p in enumerate((e / e.sum())[:80])]
    pairs = sorted(pairs, key=lambda pair: -pair[0])[:100]
    found = []
    for p, query, label in pairs:
        if p <= 0.3:
            continue
        mask = plain_bilinear(mask_logits[query].astype(np.float64), *padded)[:high, :wide]
        mask = plain_bilinear(mask, height, width)
        total, count, box = 0.0, 0, [10**6, 10**6, 0, 0]
        for y, x in zip(*np.nonzero(mask > 0), strict=True):
            total, count = total + 1 / (1 + np.exp(-mask[y, x])), count + 1
            box = [min(box[0], x), min(box[1], y), max(box[2], x + 1), max(box[3], y + 1)]
        found.append((label, box if count else [0, 0, 0, 0], p * total / (count + 1e-6), mask))
    return found


def blobs(height: int, width: int, sure: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits of 100 queries: `sure` of them see something round, the first an empty mask, the second two classes."""
    g = torch.Generator().manual_seed(seed)
    classes = torch.randn(100, 81, generator=g)
    classes[:, 80] += 8
    labels = torch.randint(80, (sure,), generator=g)
    classes[range(sure), labels] += 6 + 6 * torch.rand(sure, generator=g)  # about half of them above 0.3
    classes[0, labels[0]] += 20
    classes[1] = -9
    classes[1, [3, 7]] = torch.tensor([1.0, 1.01])
    h, w = (side // 4 for side in sizes(height, width)[1])
    y, x = torch.arange(h)[None, :, None], torch.arange(w)[None, None]
    centre, radius = torch.rand(2, 100, 1, 1, generator=g), 0.05 + 0.4 * torch.rand(100, 1, 1, generator=g)
    masks = radius * h - ((y - centre[0] * h) ** 2 + (x - centre[1] * w) ** 2).sqrt()
    masks = masks / 4 + 0.3 * torch.randn(masks.shape, generator=g)
    masks[0] = -masks[0].abs() - 1
    return classes, masks


@pytest.mark.parametrize(
    ("height", "width", "resized", "padded"),
    [
        (480, 640, (800, 1067), (800, 1088)),  # 640 · 5/3 = 1066.7
        (640, 480, (1067, 800), (1088, 800)),
        (512, 512, (800, 800), (800, 800)),
        (1024, 1024, (800, 800), (800, 800)),
        (300, 1000, (400, 1333), (416, 1344)),  # the long side decides: 300 · 1.333 = 399.9
        (427, 640, (800, 1199), (800, 1216)),
    ],
)
def test_sizes_by_hand(height: int, width: int, resized: tuple[int, int], padded: tuple[int, int]) -> None:
    assert sizes(height, width) == (resized, padded)
    assert prepare(torch.zeros(3, height, width)).shape == (3, *padded)


def test_preparation_by_hand() -> None:
    levels = torch.zeros(3, 400, 400)
    levels[:, :, 1::2] = 2  # doubled: 0, 0.5, 1.5, 1.5, 0.5, … and halves go up
    row = prepare(levels)[:, 17] * torch.from_numpy(STD)[:, None] + torch.from_numpy(MEAN)[:, None]
    torch.testing.assert_close(row[:, :6], torch.tensor([[0, 1, 2, 2, 1, 1.0]]).expand(3, 6), atol=1e-4, rtol=0)

    spot = torch.zeros(3, 1600, 1600)
    spot[:, 800, 800] = 255  # halved without antialiasing: the mean of 2 x 2, 63.75, in one place only
    seen = prepare(spot) * torch.from_numpy(STD)[:, None, None] + torch.from_numpy(MEAN)[:, None, None]
    assert seen[:, 400, 400].tolist() == pytest.approx([64, 64, 64], abs=1e-4)
    seen[:, 400, 400] = 0
    assert seen.abs().max() < 1e-4

    wide = prepare(torch.full((3, 480, 640), 255.0))  # 800 x 1067, then 21 columns of grey 128
    white, grey = (255 - MEAN) / STD, (128 - MEAN) / STD
    assert wide[:, 0, 1066].tolist() == pytest.approx(white.tolist(), abs=1e-5)
    assert wide[:, 799, 1067].tolist() == pytest.approx(grey.tolist(), abs=1e-5)
    assert (wide[:, :, 1067:] == wide[:, :1, 1067:1068]).all()


@pytest.mark.parametrize(("height", "width", "sure"), [(64, 64, 36), (48, 64, 14), (90, 50, 12), (20, 70, 12)])
def test_instances_equal_plain_code(height: int, width: int, sure: int) -> None:
    classes, masks = blobs(height, width, sure, seed=height)
    labels, rows, found = instances(classes, masks, height, width)
    expected = plain_instances(classes.numpy(), masks.numpy(), height, width)
    assert len(expected) > 5 and labels.tolist() == [label for label, *_ in expected]
    assert rows[:, :4].tolist() == [[float(v) for v in box] for _, box, _, _ in expected]
    assert rows[:, 4].tolist() == pytest.approx([score for *_, score, _ in expected], abs=1e-5)
    for ours, (*_, logits) in zip(found.numpy(), expected, strict=True):
        clear = abs(logits) > 1e-4
        assert np.array_equal(ours[clear], (logits > 0)[clear])
    empty = [row for row in rows.tolist() if row[:4] == [0, 0, 0, 0]]
    assert empty == [[0, 0, 0, 0, 0]]  # kept, with a score that can never count
    assert {3, 7} <= set(labels.tolist())  # one query, two classes
    assert rows.dtype == torch.float32 and found.dtype == torch.bool


@pytest.mark.usefixtures("small_sizes")
def test_cut_to_100_comes_before_the_threshold() -> None:
    classes, masks = torch.full((100, 81), -9.0), torch.ones(100, 8, 8)
    classes[:, [10, 20]] = torch.tensor([2.0, 1.9])  # 200 pairs above 0.3, the first class of each query surer
    labels, rows, _ = instances(classes, masks, 32, 32)
    assert labels.tolist() == [10] * 100 and (rows[:, 4] > 0.3).all()
    labels, _, _ = instances(torch.zeros(100, 81), masks, 32, 32)
    assert len(labels) == 0
    labels, _, _ = instances(torch.zeros(100, 81), masks, 32, 32, least=-1)
    assert len(labels) == 100


def test_score_is_the_probability_times_the_mean_inside() -> None:
    classes, masks = torch.full((100, 81), -9.0), torch.full((100, 200, 200), -5.0)
    classes[4, 30] = 9
    masks[4, :, 100:] = 1  # right half of 800 x 800; the edge is blended
    labels, rows, found = instances(classes, masks, 8, 8)
    assert labels.tolist() == [30]
    assert rows[0, :4].tolist() == [4, 0, 8, 8] and found[0].sum() == 32
    assert rows[0, 4].item() == pytest.approx(torch.tensor(1.0).sigmoid().item(), abs=1e-5)


def test_boxes_of_masks_by_hand() -> None:
    masks = torch.zeros(4, 6, 9, dtype=torch.bool)
    masks[0, 2, 3] = masks[0, 4, 7] = True
    masks[1, 5, 8] = True
    masks[3] = True
    assert mask_boxes(masks).tolist() == [[3, 2, 8, 5], [8, 5, 9, 6], [0, 0, 0, 0], [0, 0, 9, 6]]


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network looks at 96 x 160 instead of 800 x 1333."""
    monkeypatch.setattr(mask2former, "SHORT", 96)
    monkeypatch.setattr(mask2former, "LONG", 160)


def small_detector(dtype: torch.dtype = torch.float32) -> Mask2FormerClip:
    model = small_mask2former(4)
    with torch.no_grad():  # surer of itself than a random network
        model.class_predictor.weight.mul_(60)
        model.class_predictor.bias[80] -= 5
        for part in model.model.transformer_module.decoder.mask_predictor.mask_embedder.parameters():
            part.mul_(2)
    return Mask2FormerClip(model, small_clip(1), name="small", dtype=dtype)


def pictures(*shapes: tuple[int, int]) -> list[Tensor]:
    g = torch.Generator().manual_seed(3)
    return [torch.randint(256, (3, *shape), generator=g) / 255 for shape in shapes]


def flat(found: Detections) -> list[tuple[str, list[float]]]:
    return [(name, row) for name, rows in found.boxes.items() for row in rows]


@pytest.mark.usefixtures("small_sizes")
def test_batches_see_what_single_images_show(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = small_detector()
    images = pictures((64, 64), (48, 64), (96, 96), (64, 48), (80, 80))
    seen = []
    detector.model.register_forward_pre_hook(lambda model, inputs: seen.append(tuple(inputs[0].shape)))
    together = detector.detect(images)
    assert sorted(seen) == [(1, 3, 96, 128), (1, 3, 128, 96), (3, 3, 96, 96)]
    seen.clear()
    monkeypatch.setattr(mask2former, "_BYTES", 2 * 96 * 96 * mask2former._BYTES_PER_PIXEL)
    in_pairs = detector.detect(images)
    assert sorted(shape[0] for shape in seen if shape[2:] == (96, 96)) == [1, 2]
    alone = [detector.detect([image])[0] for image in images]
    for one, two, three in zip(together, in_pairs, alone, strict=True):
        assert flat(three)
        for other in (one, two):
            assert [name for name, _ in flat(other)] == [name for name, _ in flat(three)]
            for (_, a), (_, b) in zip(flat(other), flat(three), strict=True):
                assert a == pytest.approx(b, abs=1e-3)
    assert len({str(flat(found)) for found in alone}) == 5  # else the order would not show


@pytest.mark.usefixtures("small_sizes")
def test_bfloat16_stays_inside_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, exact = small_detector(torch.bfloat16), small_detector()
    made, used = [], []
    detector.model.register_forward_hook(lambda m, i, out: made.append(out.class_queries_logits))
    inner = mask2former.instances
    monkeypatch.setattr(mask2former, "instances", lambda *args: used.append(args[:2]) or inner(*args))
    images = pictures((64, 64), (48, 64))
    rows = torch.tensor([row for found in detector.detect(images) for _, row in flat(found)])
    assert {logits.dtype for logits in made} == {torch.bfloat16}
    assert {tensor.dtype for pair in used for tensor in pair} == {torch.float32}
    assert len(rows) and rows.isfinite().all()
    assert detector.model.dtype == torch.float32 and detector.record()["dtype"] == "bfloat16"
    used.clear()
    exact.detect(images)
    precise = torch.stack([logits for logits, _ in used])
    assert 0 < (torch.cat(made) - precise).abs().mean() < 0.2 * precise.std()


@pytest.mark.usefixtures("small_sizes")
def test_detections_are_judged_to_the_colour() -> None:
    detector = small_detector()
    check: Detector = detector
    assert list(check.classes) == list(OBJECT_NAMES)
    [image] = pictures((64, 80))
    [found] = detector.detect([image])
    name, rows = max(found.boxes.items(), key=lambda item: max(row[4] for row in item[1]))
    best = max(range(len(rows)), key=lambda k: rows[k][4])
    assert rows[best][4] > 0.3
    absent = next(name for name in OBJECT_NAMES if name not in found.boxes)
    metadata = [{"tag": "colors", "prompt": "x", "include": [{"class": name, "count": 1, "color": c}]} for c in COLORS]
    metadata.append({"tag": "single_object", "prompt": "x", "include": [{"class": name, "count": 1}]})
    metadata.append({"tag": "single_object", "prompt": "x", "include": [{"class": absent, "count": 1}]})
    verdicts = judge(detector, [image] * 12, metadata)

    x = detector.model(prepare((image * 255).round())[None])
    labels, own, masks = instances(x.class_queries_logits[0], x.masks_queries_logits[0], 64, 80)
    k = max((k for k in range(len(labels)) if OBJECT_NAMES[labels[k]] == name), key=lambda k: own[k, 4])
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    [color] = detector.clip.classify(pixels, [masks[k].numpy()], own[k : k + 1].detach().numpy(), name)
    assert [v.correct for v in verdicts] == [c == color for c in COLORS] + [True, False]
    assert verdicts[11].reason == f"expected {absent}>=1, found 0"


def test_full_size_image_once() -> None:
    [found] = small_detector().detect(pictures((60, 80)))
    assert flat(found)
    for _, (x1, y1, x2, y2, score) in flat(found):
        assert 0 <= x1 <= x2 <= 80 and 0 <= y1 <= y2 <= 60 and 0 <= score <= 1


def test_networks_and_images_of_another_kind_are_refused() -> None:
    for wrong in ({"num_labels": 79}, {"num_queries": 99}):
        with pytest.raises(ImagecotError, match="80 classes and 100 queries"):
            Mask2FormerClip(small_mask2former(**wrong), small_clip(), name="small")
    detector = small_detector()
    with pytest.raises(UsageError, match="float32 or bfloat16"):
        Mask2FormerClip(detector.model, detector.clip, name="small", dtype=torch.float16)
    for image in (torch.zeros(4, 8, 8), torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(UsageError, match="takes images"):
            detector.detect([image])
    with pytest.raises(UsageError, match="there is no checkpoint 'nothing'"):
        Mask2FormerClip.from_pretrained("nothing", small_clip())


def test_classes_in_another_order_are_refused() -> None:
    """By its own labels: without any, and with a few that are spelt in another way, the order is taken to be COCO's."""
    own = ["tvmonitor" if name == "tv" else "sofa" if name == "couch" else name for name in OBJECT_NAMES]
    Mask2FormerClip(small_mask2former(id2label=dict(enumerate(own))), small_clip(), name="small")
    swapped = ["bicycle", "person", *OBJECT_NAMES[2:]]
    others = [f"thing {i}" for i in range(80)]
    for names, message in (
        (sorted(OBJECT_NAMES), r"not COCO's in their order: airplane \(0\)"),
        (swapped, r"order: bicycle \(0\), person \(1\);"),
        (others, "order: thing 0"),
    ):
        model = small_mask2former(id2label=dict(enumerate(names)))
        with pytest.raises(ImagecotError, match=message):
            Mask2FormerClip(model, small_clip(), name="small")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "clip"}, "not a Mask2Former"),
        ({"dropout": 3}, "cannot look at an image"),
        ({"hidden_dim": "32"}, r"config\.json: hidden_dim must be a whole number"),
        ({"encoder_layers": 10**6}, r"config\.json: encoder_layers"),
        ({"num_attention_heads": 3}, r"config\.json describes no model|cannot look"),
    ],
)
def test_a_configuration_that_is_no_detectors(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    folder = tmp_path / "weights"
    small_mask2former().save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    with pytest.raises(ImagecotError, match=message):
        Mask2FormerClip.from_pretrained(folder, small_clip())


def test_names_tell_size_and_weights() -> None:
    assert detector_name(mmdet_config(), "mmdet") == "mask2former-swin-s (mmdet)"
    assert detector_name(small_config(), "facebook") == "mask2former-swin-custom (facebook)"


def test_transformers_folder_is_a_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = small_mask2former(5), small_clip()
    folder = tmp_path / "weights"
    model.save_pretrained(folder)
    detector = Mask2FormerClip.from_pretrained(folder, clip, device="cpu")
    assert torch.equal(detector.model.class_predictor.weight, model.class_predictor.weight)
    assert detector.name == "mask2former-swin-custom (folder weights)"
    record = detector.record()
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert record["weights"] == {"model.safetensors": digest} and record["official"] is False
    assert record["clip"] == clip.record() and record["versions"]["torch"] == torch.__version__
    assert record["dtype"] == "float32" and record["thresholds"]["class_probability"] == 0.3
    monkeypatch.setattr(mask2former, "find_folder", lambda *args: folder)
    hub = Mask2FormerClip.from_pretrained("facebook/mask2former-swin-small-coco-instance", clip, device="cpu")
    assert hub.name == "mask2former-swin-custom (facebook)" and not hub.official

    weights = load_file(folder / "model.safetensors")
    # As in the released checkpoint: without the norm that no one reads.
    less = {name: tensor for name, tensor in weights.items() if "swin.layernorm" not in name}
    assert len(less) < len(weights)
    save_file(less, folder / "model.safetensors", metadata={"format": "pt"})
    Mask2FormerClip.from_pretrained(folder, clip, device="cpu")
    del less["class_predictor.bias"]
    save_file(less, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ImagecotError, match=r"1 tensor\(s\).*class_predictor.bias"):
        Mask2FormerClip.from_pretrained(folder, clip, device="cpu")


def test_only_the_published_weights_are_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, clip = tmp_path / "x.pth", small_clip()
    torch.save({"state_dict": mmdet_state(small_mask2former(5))}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(mmdet_weights, "mmdet_config", small_config)

    def load(dtype: torch.dtype = torch.float32) -> Mask2FormerClip:
        return Mask2FormerClip.from_pretrained(file, clip, device="cpu", dtype=dtype)

    monkeypatch.setattr(type(clip), "official", True)
    other = load()
    assert other.name == "mask2former-swin-custom (file x.pth)" and not other.official
    monkeypatch.setattr(mask2former, "PUBLISHED_SHA256", digest[:8])
    published = load()
    assert published.name == "mask2former-swin-custom (mmdet)" and published.record()["official"] is True
    assert published.record()["weights"] == {"x.pth": digest}
    assert not load(torch.bfloat16).official
    monkeypatch.setattr(type(clip), "official", False)
    assert not load().official
