"""Janus and Janus-Pro: prompts, transformer and image tokenizer for drawing in raster order."""
