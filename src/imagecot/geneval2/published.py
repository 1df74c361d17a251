"""What the reference of GenEval 2 judges with."""

JUDGE = "Qwen/Qwen3-VL-8B-Instruct"
