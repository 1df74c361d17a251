"""Which number formats go with weights in shares."""


def check_shares(shard: bool, precision: str) -> None:
    """Raise ValueError for a format whose losses are scaled, as each process would scale its share otherwise."""
    if shard and precision == "fp16":
        raise ValueError("shard goes with precision no or bf16, not fp16")
