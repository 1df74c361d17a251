"""GenEval 2 (Kamath et al., 2025, arXiv 2512.16853): its data, the answers that are asked for, and the summary.

The data are published under CC BY-NC 4.0 by facebookresearch/GenEval2, and are not a part of this package.
"""
