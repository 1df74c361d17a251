"""How a generator is aligned: the settings of preference pairs, of guidance by rewards, and of the training."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imagecot.training.finetune import Lora, MixedPrecision
from imagecot.training.online import Online
from imagecot.training.preference import PreferenceLoss


class Alignment(BaseModel):
    """How a generator is aligned. A step sees `batch_size` pairs a process, `accumulate` times.

    beta, loss, label_smoothing  see `preference.dpo_loss`
    likelihood                   weight of the chosen images' negative log-likelihood in nats a code, which keeps a
                                 round from making chosen and rejected images both less likely (Pang et al., 2024)
    draws                        masks by which the log-probability of an image is estimated
    steps                        instead of `epochs` over the pairs
    held_out                     share of the prompts whose pairs are for evaluation only
    pictures                     how many fixed prompts are drawn at each evaluation
    """

    model_config = ConfigDict(extra="forbid")

    dpo_weight: float = Field(1.0, ge=0)
    online: Online | None = None
    beta: float = Field(0.1, gt=0)
    loss: PreferenceLoss = "sigmoid"
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    likelihood: float = Field(0.0, ge=0)
    draws: int = Field(4, ge=1)
    epochs: float = Field(1.0, gt=0)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(10, ge=1)
    accumulate: int = Field(1, ge=1)
    learning_rate: float = 1e-5
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    clip: float = 1.0
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    precision: MixedPrecision = "no"
    held_out: float = Field(0.05, ge=0, lt=1)
    pictures: int = Field(8, ge=0)
    evaluate_every: int = Field(100, ge=1)
    save_every: int = Field(100, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        if not self.dpo_weight and not (self.online and self.online.weight):
            raise ValueError("dpo_weight is 0, so online must be given with a weight above 0")
        if not self.dpo_weight and not self.steps:
            raise ValueError("without pairs there are no epochs, so steps must be given")
        if self.loss == "ipo" and self.label_smoothing:
            raise ValueError("label_smoothing goes with the sigmoid loss only")
        return self
