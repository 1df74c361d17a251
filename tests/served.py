"""A server of this machine that answers as a judge: as told, or as a verifier that is loaded here would answer."""

import base64
import json
import math
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import torch

from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question
from imagecot.images import from_png
from imagecot.verifiers.answers import OPEN
from imagecot.verifiers.chat_verifier import ChatVerifier
from misbehaving import Answer, sends

RECORDED = json.loads((Path(__file__).parent / "data/served/vllm.json").read_text(encoding="utf-8"))
USAGE = {"prompt_tokens": 100, "completion_tokens": 7}  # as of `says`


def judges(top: Mapping[str, float] | list[tuple[str, float]], content: str = "yes", finish: str = "length") -> Answer:
    """Answer with probabilities of first tokens."""
    pairs = list(top.items()) if isinstance(top, Mapping) else top
    told = [{"token": text, "logprob": math.log(p), "bytes": [*text.encode()]} for text, p in pairs]
    return scores(told, content, finish)


def scores(top: Any, content: str = "yes", finish: str = "length", usage: Any = USAGE) -> Answer:
    """Answer with whatever stands where the log-probabilities of the first token belong."""
    first = {"token": content, "logprob": 0.0, "top_logprobs": top}
    choice = {"message": {"content": content}, "logprobs": {"content": [first]}, "finish_reason": finish}
    return sends({"choices": [choice], "usage": usage})


def without_scores(logprobs: Any) -> Answer:
    """Answer with something else than log-probabilities."""
    return sends({"choices": [{"message": {"content": "yes"}, "logprobs": logprobs}], "usage": USAGE})


def picture_of(body: Mapping[str, Any]) -> torch.Tensor:
    """The image (1, 3, H, W) that a request is about."""
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    return from_png(base64.b64decode(url.removeprefix("data:image/png;base64,")))[None]


def asked_of(body: Mapping[str, Any]) -> tuple[Question, str, torch.Tensor]:
    """The question that a request asks, its prompt, and the image (1, 3, H, W); OPEN and a text for any other one."""
    _, text = body["messages"][0]["content"]
    for question in (ORM, PRM, CLARITY, REFLECTION):
        pattern = re.escape(question.template.strip()).replace(re.escape("{prompt}"), "(.*)")
        found = re.fullmatch(pattern, text["text"], re.S)
        if found:
            follows = len(body["messages"]) == 3
            assert not follows or body["messages"][2]["content"] == POTENTIAL.template
            return POTENTIAL if follows else question, found[1], picture_of(body)
    return OPEN, text["text"], picture_of(body)


def stands_for(verifier: ChatVerifier) -> Answer:
    """Answer each request as a verifier would: the 20 most probable tokens, and the text of a reflection."""
    one_at_a_time = threading.Lock()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = handler.asked  # type: ignore[attr-defined]
        question, prompt, image = asked_of(body)
        with one_at_a_time, torch.no_grad():
            ids, mask = verifier._ask_all(image, [prompt], question)
            state = verifier.state(verifier.embed(image, ids), mask).float()
            logits = state @ verifier.model.lm_head.weight.float().T
            top = logits[0].double().log_softmax(0).topk(body["top_logprobs"])
            text, finish = "yes", "length"
            if body["max_completion_tokens"] > 1:
                (written,) = verifier.reflect(image, [prompt])
                text, finish = written.text, "stop" if written.complete else "length"
            tokens = [verifier.tokenizer.decode([index]) for index in top.indices.tolist()]
        told = [{"token": token, "logprob": p} for token, p in zip(tokens, top.values.tolist(), strict=True)]
        usage = {"prompt_tokens": int(mask.sum()), "completion_tokens": 0}
        scores(told, text, finish, usage)(handler)

    return answer


def sees(handler: BaseHTTPRequestHandler) -> None:
    """Answer by the mean level of the picture: bright ones are right."""
    p = float(picture_of(handler.asked).mean())  # type: ignore[attr-defined]
    judges({"yes": p, "no": 1 - p})(handler)
