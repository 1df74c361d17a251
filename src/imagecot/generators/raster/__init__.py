"""What generators share that draw an image row by row of codes; `transformer` says what a family adds to it."""
