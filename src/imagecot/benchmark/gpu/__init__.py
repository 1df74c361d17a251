"""What is looked at when a GPU is at hand: whether all is right there, how fast the released sizes are, how they train.

`python -m imagecot.benchmark.gpu` runs the parts in that order, each in a process and a time of its own, and writes
gpu-check.json. Without a GPU the same parts run on the CPU, with shipped or small models: that rehearses the checks and
says nothing about a GPU.
"""
