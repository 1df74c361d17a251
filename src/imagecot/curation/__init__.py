"""Ranking data: prompts, labelled images, step labels by continuation, PARM's three subsets."""
