"""The recipe of a verifier's fine-tuning on ranking data."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from imagecot.recipe_fields import (
    RECIPE,
    Batch,
    Count,
    Epochs,
    Few,
    Flag,
    MixedPrecision,
    Name,
    Place,
    Positive,
    PositiveRate,
    Rate,
    Seed,
    Share,
    ShareBelowOne,
    Weight,
    Whole,
)
from imagecot.training.lora import Lora
from imagecot.training.precision import check_shares
from imagecot.training.tracking import ReportTo


class Source(BaseModel):
    """A curated folder in the mix; `weight` 2 shows each of its rows twice an epoch, 0.5 half of them."""

    model_config = RECIPE

    folder: Place
    questions: list[Literal["orm", "prm", "clarity", "potential", "reflection"]] | None = None
    weight: Positive = Field(1.0, le=1000)


ClarityLabel = Literal["static", "agreement"] | Few


class FineTuneRecipe(BaseModel):
    """A recipe of `imagecot train verifier` that starts from another verifier.

    A step sees `batch_size` rows `accumulate` times, which all processes share.

    lora           low-rank updates of the language model and, where it has a rate, of the vision tower
    clarity_label  which previews count as clear: `static`, those of the paper's steps; `agreement`, those in which the
                   scorer sees what it sees in the final image; or those from a step of the generator's own on
    shard          whether processes hold a share of the weights each, where they do not fit one card
    shift          pixels by which a training image is moved at most, at random: what it shows stays the same
    """

    model_config = RECIPE

    kind: Literal["reward-model"] = "reward-model"
    output: Place
    report_to: ReportTo = []
    base: Name
    data: Annotated[list[Source], Field(min_length=1)]
    clarity_label: ClarityLabel = "static"
    shift: Whole = Field(0, le=1000)
    epochs: Epochs = 1.0
    batch_size: Batch = 32
    accumulate: Few = 1
    learning_rate: PositiveRate
    vision_learning_rate: Rate = 0.0
    warmup_ratio: Share = 0.03
    weight_decay: Weight = 0.0
    clip: Positive = 1.0
    lora: Lora | None = None
    gradient_checkpointing: Flag = False
    precision: MixedPrecision = "no"
    shard: Flag = False
    held_out: ShareBelowOne = Field(0.1, gt=0, description="share of the prompts that is kept for evaluation")
    evaluate_every: Count = 100
    save_every: Count = 100
    seed: Seed = 0

    @model_validator(mode="after")
    def _shares(self) -> Self:
        check_shares(self.shard, self.precision)
        return self
