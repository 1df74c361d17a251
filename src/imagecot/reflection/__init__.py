"""What is wrong with an image: found by asking about the parts of its prompt, or written by the verifier."""
