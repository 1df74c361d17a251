"""What prompts are about and who judges the images of them: prompts, classes and detectors that belong together."""
