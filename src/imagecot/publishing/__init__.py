"""Models, data and results on the Hugging Face hub, and back."""

from imagecot.publishing.pull import pull_from_hub
from imagecot.publishing.push import Published, push_to_hub

__all__ = ["Published", "pull_from_hub", "push_to_hub"]
