"""How fast drawing and judging are here, beside a plain decoder and beside what the machine can give."""
