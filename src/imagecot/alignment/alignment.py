"""How a generator is aligned: the settings of preference pairs, of guidance by rewards, and of the training."""

from typing import Self

from pydantic import BaseModel, Field, model_validator

from imagecot.alignment.online import Online
from imagecot.alignment.preference import PreferenceLoss
from imagecot.recipe_fields import (
    RECIPE,
    Batch,
    Count,
    Epochs,
    Few,
    Flag,
    MixedPrecision,
    Positive,
    PositiveRate,
    Seed,
    Share,
    ShareBelowOne,
    Weight,
    Whole,
)
from imagecot.training.lora import Lora
from imagecot.training.precision import check_shares

MOST_PAIRS = 100_000_000  # that a training visits


class Alignment(BaseModel):
    """How a generator is aligned. A step sees `batch_size` pairs `accumulate` times, which all processes share.

    beta, loss, label_smoothing  see `preference.dpo_loss`
    likelihood                   weight of the chosen images' negative log-likelihood in nats a code, which keeps a
                                 round from making chosen and rejected images both less likely (Pang et al., 2024)
    draws                        masks by which the log-probability of an image is estimated, where it is
    steps                        instead of `epochs` over the pairs
    shard                        whether processes hold a share of the weights each, where they do not fit one card
    held_out                     share of the prompts whose pairs are for evaluation only
    pictures                     how many fixed prompts are drawn at each evaluation
    """

    model_config = RECIPE

    dpo_weight: Weight = 1.0
    online: Online | None = None
    beta: Positive = 0.1
    loss: PreferenceLoss = "sigmoid"
    label_smoothing: ShareBelowOne = Field(0.0, lt=0.5)
    likelihood: Weight = 0.0
    draws: Few = 4
    epochs: Epochs = 1.0
    steps: Count | None = None
    batch_size: Batch = 10
    accumulate: Few = 1
    learning_rate: PositiveRate = 1e-5
    warmup_ratio: Share = 0.03
    weight_decay: Weight = 0.0
    clip: Positive = 1.0
    lora: Lora | None = None
    gradient_checkpointing: Flag = False
    precision: MixedPrecision = "no"
    shard: Flag = False
    held_out: ShareBelowOne = 0.05
    pictures: Whole = Field(8, le=1000)
    evaluate_every: Count = 100
    save_every: Count = 100
    seed: Seed = 0

    @model_validator(mode="after")
    def _holdable(self) -> Self:
        if self.steps and self.steps * self.batch_size * self.accumulate > MOST_PAIRS:
            raise ValueError(f"steps x batch_size x accumulate is over {MOST_PAIRS:,}, which no list of pairs holds")
        return self

    @model_validator(mode="after")
    def _shares(self) -> Self:
        check_shares(self.shard, self.precision)
        return self

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        if not self.dpo_weight and not (self.online and self.online.weight):
            raise ValueError("dpo_weight is 0, so online must be given with a weight above 0")
        if not self.dpo_weight and not self.steps:
            raise ValueError("without pairs there are no epochs, so steps must be given")
        if self.loss == "ipo" and self.label_smoothing:
            raise ValueError("label_smoothing goes with the sigmoid loss only")
        return self
