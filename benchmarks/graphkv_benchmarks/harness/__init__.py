"""lm_eval (EleutherAI's evaluation harness) with an engine of ours as its model; documents and edges come from a task's rows."""
