"""The models that GenEval judges by, by their names on the hub."""

DETECTOR = "facebook/mask2former-swin-small-coco-instance"  # of another training than the benchmark's own, mmdet's
CLIP = "openai/clip-vit-large-patch14"  # names colours beside a Mask2Former
