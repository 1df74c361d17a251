"""A small Qwen3-VL, the family of GenEval 2's own judge: it answers as the reference reads its answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BatchFeature, PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from imagecot.geneval2.answers import asked, spelled
from imagecot.verifiers.answers import first_ids
from imagecot.verifiers.any_vlm import AnyVlm

torch.set_num_threads(1)
TOKENIZER = Path(__file__).parent / "data" / "llava" / "tokenizer.json"
MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Processor:
    """What Qwen3-VL's own does with images; that one cannot be made without torchvision."""

    def __init__(self) -> None:
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER), pad_token="<|endoftext|>")
        self.tokenizer.add_tokens([*MARKS], special_tokens=True)
        self.tokenizer.add_tokens(["Yes", "No", "two", "2"])
        size = {"shortest_edge": 256, "longest_edge": 4096}
        self.pictures = Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, temporal_patch_size=2, size=size)

    def apply_chat_template(self, conversation, **how) -> BatchFeature:
        told = {"chat_template": TEMPLATE, "add_generation_prompt": True, "tokenize": False}
        texts = [self.tokenizer.apply_chat_template(chat, **told) for chat in conversation]
        pictures = [part["image"] for chat in conversation for part in chat[0]["content"] if part["type"] == "image"]
        seen = self.pictures(images=pictures, return_tensors="pt")
        sizes = [int(grid.prod()) // 4 for grid in seen["image_grid_thw"]]
        texts = [text.replace(MARKS[2], MARKS[2] * size) for text, size in zip(texts, sizes, strict=True)]
        read = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False)
        ids = read["input_ids"]
        kinds = (ids == self.tokenizer.convert_tokens_to_ids(MARKS[2])).int()
        read = {"input_ids": ids, "attention_mask": read["attention_mask"], "mm_token_type_ids": kinds}
        return BatchFeature({**read, **seen})


@pytest.fixture(scope="module")
def judge() -> AnyVlm:
    processor = Processor()
    start, end, image, video = processor.tokenizer.convert_tokens_to_ids([*MARKS])
    sizes = {"hidden_size": 32, "intermediate_size": 64}
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    text = {
        "vocab_size": 448,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    eye = {"depth": 2, "num_heads": 2, "patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2}
    eye |= {"out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    config = Qwen3VLConfig(
        text_config={**text, **sizes, "rope_scaling": rope}, vision_config={**eye, **sizes}, image_token_id=image,
        video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return AnyVlm(model, processor)


def test_it_answers_as_the_reference_reads_it(judge: AnyVlm) -> None:
    """`evaluation.py` generates one token greedily and takes the softmax of its scores, one question at a time."""
    levels = torch.randint(0, 256, (3, 40, 56), generator=torch.Generator().manual_seed(1))
    questions = [asked(text) for text in ("Is it red?", "How many dogs are in the image?", "Are there any cats?")]
    answers = [spelled(answer) for answer in ("Yes", "two", "No")]
    found = judge.answer_probability(levels[None] / 255, questions, answers)
    picture = Image.fromarray(levels.permute(1, 2, 0).numpy().astype(np.uint8))
    for question, answer, p in zip(questions, answers, found, strict=True):
        parts = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
        inputs = judge.processor.apply_chat_template([[{"role": "user", "content": parts}]])
        how = {"max_new_tokens": 1, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
        chances = judge.model.generate(**inputs, **how).scores[0].softmax(-1)[0]
        ids = {judge.processor.tokenizer.encode(text)[0] for text in answer}
        counted = first_ids(judge.processor.tokenizer, answer)
        assert {*counted} <= ids  # the others are a blank, or a letter
        torch.testing.assert_close(chances[counted].sum(), p, atol=1e-5, rtol=1e-3)
    assert len({*found.tolist()}) == 3
