"""Training: any decoder, under any mixture of layouts, resumable. Read `loop.py` first."""
