"""GenEval's colour question: texts and crops by hand, on a small random CLIP."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval import clip_colors
from imagecot.geneval.clip_colors import ClipColors, load_complete, masked_crop, resized_middle, to_input
from imagecot.geneval.prompts import COLORS

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def small_tokenizer() -> CLIPTokenizer:
    letters = [c + end for c in "abcdefghijklmnopqrstuvwxyz-" for end in ("", "</w>")]
    words = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=words, merges=[])


def small_clip_model(seed: int = 0) -> CLIPModel:
    torch.manual_seed(seed)
    end = small_tokenizer().eos_token_id
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**layers, "vocab_size": end + 1, "eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": end}
    vision = {**layers, "image_size": 224, "patch_size": 56}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # larger than at birth, so that texts and crops differ
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def small_clip(seed: int = 0) -> ClipColors:
    return ClipColors(small_clip_model(seed), small_tokenizer(), name="small")


def slow_prototypes(model: CLIPModel, tokenizer: CLIPTokenizer, name: str) -> torch.Tensor:
    columns = []
    for color in COLORS:
        features = []
        for text in (
            f"a photo of a {color} {name}",
            f"a photo of a {color}-colored {name}",
            f"a photo of a {color} object",
        ):
            output = model.text_model(input_ids=tokenizer(text, return_tensors="pt").input_ids)  # alone: no padding
            feature = model.text_projection(output.last_hidden_state[0, -1])
            features.append(feature / feature.norm())
        mean = sum(features) / 3
        columns.append(mean / mean.norm())
    return torch.stack(columns)


def full_resize(image: Image.Image, size: int) -> Image.Image:
    """The reference's way: all of the resized image, then torchvision's centre crop."""
    width, height = image.size
    long = int(size * max(width, height) / min(width, height))
    whole = image.resize((size, long) if width <= height else (long, size), Image.Resampling.BICUBIC)
    left, top = round((whole.width - size) / 2), round((whole.height - size) / 2)
    return whole.crop((left, top, left + size, top + size))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def scene(k: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """An image (40, 60, 3) and k objects of different places and shapes."""
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    boxes, masks = [], []
    for i in range(k):
        x, y, w, h = i * 2, i, 3 + i, 4 + i // 2
        mask = np.zeros((40, 60), bool)
        mask[y : y + h, x : x + w] = rng.random(mask[y : y + h, x : x + w].shape) < 0.8
        boxes.append([x, y, min(x + w, 60), min(y + h, 40), 0.9])
        masks.append(mask)
        pixels[mask] = pixels[mask] // 8 + rng.integers(0, 220, 3).astype(np.uint8)
    return pixels, masks, np.array(boxes, np.float32)


@torch.no_grad()
def test_prototypes_by_hand_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = small_clip()
    for name in ("car", "orange"):  # "a photo of a orange orange"
        prototypes = clip.prototypes(name)
        torch.testing.assert_close(prototypes, slow_prototypes(clip.model, clip.tokenizer, name), atol=1e-5, rtol=0)
    assert prototypes.shape == (10, 8)
    assert not torch.allclose(clip.prototypes("car"), prototypes, atol=1e-3)
    assert (torch.pdist(prototypes) > 1e-3).all()  # else the comparison proves little
    monkeypatch.setattr(clip.model, "get_text_features", lambda **tokens: pytest.fail("asked again"))
    assert clip.prototypes("orange") is prototypes


@torch.no_grad()
def test_colors_by_hand_in_batches() -> None:
    clip = small_clip(1)
    pixels, masks, boxes = scene(20)
    answers = clip.classify(pixels, masks, boxes, "car")
    prototypes, expected = slow_prototypes(clip.model, clip.tokenizer, "car"), []
    for mask, box in zip(masks, boxes, strict=True):
        x1, y1, x2, y2 = (int(v) for v in box[:4])
        whole = pixels.copy()
        whole[~mask] = 153
        crop = full_resize(Image.fromarray(whole).crop((x1, y1, x2, y2)), 224)
        values = (np.asarray(crop).astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
        vision = clip.model.vision_model(pixel_values=torch.from_numpy(values).permute(2, 0, 1)[None])
        feature = clip.model.visual_projection(vision.pooler_output)[0]
        expected.append(COLORS[int((prototypes @ feature).argmax())])
    assert answers == expected and len(set(answers)) > 2
    single = [clip.classify(pixels, masks[k : k + 1], boxes[k : k + 1], "car")[0] for k in range(20)]
    assert answers == single
    assert clip.classify(pixels, [], boxes[:0], "car") == []


def test_bare_tensors_of_older_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, older = small_clip(1), small_clip(1)
    for method in ("get_text_features", "get_image_features"):
        whole = getattr(older.model, method)
        monkeypatch.setattr(older.model, method, lambda whole=whole, **inputs: whole(**inputs).pooler_output)
    pixels, masks, boxes = scene(8)
    assert torch.equal(clip.prototypes("car"), older.prototypes("car"))
    assert clip.classify(pixels, masks, boxes, "car") == older.classify(pixels, masks, boxes, "car")


def test_tokenizer_without_end_marks_is_refused() -> None:
    clip = small_clip()
    clip.tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(ImagecotError, match="does not mark the end"):
        clip.prototypes("car")


def test_outside_the_mask_is_grey_and_the_crop_excludes_its_end() -> None:
    pixels = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    mask = np.zeros((5, 6), bool)
    mask[1, 2] = mask[3, 4] = True
    crop = np.asarray(masked_crop(pixels, mask, np.float32([2, 1, 5, 4, 0.5])))
    assert crop.shape == (3, 3, 3)
    assert crop[0, 0].tolist() == pixels[1, 2].tolist() and crop[2, 2].tolist() == pixels[3, 4].tolist()
    grey = np.ones((3, 3), bool)
    grey[0, 0] = grey[2, 2] = False
    assert (crop[grey] == 153).all()
    values = to_input(Image.new("RGB", (30, 20), "#999"))
    expected = [(0.6 - m) / s for m, s in zip(MEAN, STD, strict=True)]
    assert values.shape == (3, 224, 224) and values[:, 100, 50].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("long", "first"), [(225, 0), (226, 1), (227, 2), (228, 2), (231, 4)])
def test_centre_crop_rounds_half_to_even(long: int, first: int) -> None:
    # 224 is the shorter side, so nothing is resized; (227 - 224) / 2 = 1.5 is 2, where transformers takes 1
    image = noise(224, long)
    middle = np.asarray(resized_middle(image, 224))
    assert np.array_equal(middle, np.asarray(image)[first : first + 224])
    turned = image.transpose(Image.Transpose.TRANSPOSE)
    assert np.array_equal(np.asarray(resized_middle(turned, 224)), np.asarray(turned)[:, first : first + 224])


SHAPES = [(1, 1), (1, 60), (60, 1), (2, 100), (222, 2), (3, 200), (300, 7), (641, 427), (90, 227), (35, 36)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_middle_equals_that_of_the_whole(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(*shape)
    expected = np.asarray(full_resize(image, 224))
    assert np.array_equal(np.asarray(resized_middle(image, 224)), expected)
    monkeypatch.setattr(clip_colors, "_STRIP", 100_000)  # many strips, also where the image is not extreme
    assert np.array_equal(np.asarray(resized_middle(image, 224)), expected)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1)])
def test_extreme_crops_stay_small(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    resize = Image.Image.resize

    def watch(image: Image.Image, size: tuple[int, int], *more: object) -> Image.Image:
        nonlocal largest
        largest = max(largest, size[0] * size[1])
        return resize(image, size, *more)

    monkeypatch.setattr(Image.Image, "resize", watch)
    resized_middle(noise(*shape), 224)
    assert 224 * 224 < largest <= 1 << 22  # the whole would be 224 x 67200 = 15 million


def test_saved_checkpoint_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = small_clip()
    folder = tmp_path / "tiny-clip"
    clip.model.save_pretrained(folder)
    clip.tokenizer.save_pretrained(folder)
    loaded = ClipColors.from_pretrained(folder, device="cpu")
    assert torch.equal(loaded.prototypes("dog"), clip.prototypes("dog"))
    record = loaded.record()
    digest = clip_colors.hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert record["name"] == "tiny-clip" and record["weights"] == {"model.safetensors": digest}
    assert record["dtype"] == "float32" and not loaded.official
    monkeypatch.setattr(clip_colors, "PUBLISHED_SHA256", digest)
    assert loaded.official

    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ImagecotError, match=r"1 tensor\(s\).*text_projection.weight"):
        ClipColors.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ImagecotError, match="cannot be read"):
        load_complete(CLIPModel, folder)


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no checkpoint 'nothing'"):
        ClipColors.from_pretrained("nothing")
    (tmp_path / "config.json").write_text('{"model_type": "mask2former"}')
    with pytest.raises(UsageError, match="not a CLIP checkpoint"):
        ClipColors.from_pretrained(tmp_path)
