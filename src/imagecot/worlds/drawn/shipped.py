"""What of the drawn world comes with the package, by name; nothing here imports a model."""

DETECTORS: dict[str, str] = {"pictograms": "tiny-detector", "pictograms-2": "tiny-detector-2"}
"""Names of the shipped detectors and their folders: the first judges, the second is asked beside it."""
