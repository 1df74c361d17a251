"""What generators share that decide all codes of an image by and by, the surest first."""
