"""Errors, paired comparisons and the quality of yes/no answers: numbers of numbers, whatever was measured."""
