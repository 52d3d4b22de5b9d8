"""Runs of question-answering benchmarks: task × arm × model → a folder of predictions, metrics and a report; read run.py first."""
