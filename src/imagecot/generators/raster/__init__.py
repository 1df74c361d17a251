"""What generators share that draw an image row by row of codes."""
