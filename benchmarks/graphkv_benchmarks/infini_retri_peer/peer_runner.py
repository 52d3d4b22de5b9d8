"""The package infini-retri over a job, in its own environment: it has other needs than graphkv, which is not imported here.

    /path/to/its/venv/bin/python peer_runner.py job.json result.json

Nothing of the package is changed. Three public methods of the objects that it makes are wrapped from outside, to note what went in and what was kept.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")


def _memory() -> ModuleType:
    """graphkv_benchmarks.memory by its file: the package around it is not installed here."""
    spec = importlib.util.spec_from_file_location("memory", Path(__file__).parents[1] / "memory.py")
    if spec is None or spec.loader is None:
        raise ImportError("memory.py is missing beside this folder")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Notes:
    """What the package did: `chunks.chunk_docs` cuts the text into windows, `retri.pre_process` makes a prompt, `retri.focus_key_sentence` reads it and chooses."""

    def __init__(self, pipeline: Any) -> None:
        self.retri, self.chunks = pipeline.retri, pipeline.chunks
        self.texts: list[str] = []
        self.windows: list[dict[str, Any]] = []
        self.pending: tuple[list[int], dict[str, Any]] = ([], {})
        self._cut, self._pre, self._focus = self.chunks.chunk_docs, self.retri.pre_process, self.retri.focus_key_sentence
        self.chunks.chunk_docs, self.retri.pre_process, self.retri.focus_key_sentence = self._chunk_docs, self._pre_process, self._focus_key_sentence

    def _chunk_docs(self, *args: Any, **kwargs: Any) -> Any:
        self.texts = self._cut(*args, **kwargs)
        return self.texts

    def _pre_process(self, *args: Any, **kwargs: Any) -> Any:
        inputs, info = self._pre(*args, **kwargs)
        self.pending = (inputs["input_ids"][0].tolist(), info)
        return inputs, info

    def _focus_key_sentence(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        out = self._focus(*args, **kwargs)
        seconds = time.perf_counter() - start
        ids, info = self.pending
        chosen = set(out[1])  # places of the kept tokens in the prompt
        first, end = info["context_start_index"], info["context_end_index"]
        spans = [span for span in info["sentence_index_split"] if span and first <= span[0] < end]
        self.windows.append(
            {
                "tokens": len(ids),
                "prefix": ids[:first],
                "question": ids[info["question_start_index"] :],
                "between": ids[end : info["question_start_index"]],
                "sentences": [ids[span[0] : span[-1] + 1] for span in spans],
                "kept": [i for i, span in enumerate(spans) if span[0] in chosen],
                "seconds": seconds,
            }
        )
        return out

    def take(self) -> list[dict[str, Any]]:
        """The windows since the last call, each with its `fresh` sentences: what it has beside those that were kept, as the package cuts and tokenises it."""
        windows, self.windows = self.windows, []
        for number, (window, text) in enumerate(zip(windows, self.texts, strict=True)):
            # As the package puts it into the prompt: an empty line behind, and nothing blank in front of the first.
            joined = (text if number else text.lstrip()).rstrip() + "\n\n"
            sentences = self.retri.split_sentence(joined, self.retri.retri_split_pattern)
            window["fresh"] = [self.retri.tokenizer.encode(sentence, add_special_tokens=False) for sentence in sentences]
        return windows


def main(job_path: str, result_path: str) -> None:
    import torch
    import transformers
    from infini_retri import InfiniRetri  # type: ignore[import-not-found]
    from transformers import AutoModelForCausalLM, AutoTokenizer

    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    memory = _memory()
    torch.set_num_threads(job["threads"])
    transformers.utils.logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    tokenizer.chat_template = job["chat_template"]  # the prompt is the job's, the same for both
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=getattr(torch, job["dtype"]), attn_implementation="eager")
    settings = job["settings"]
    package = InfiniRetri(model, tokenizer, topk=settings["top_tokens"], answer_length=settings["phrase"], window_length=settings["window"])
    notes = Notes(package.ir)

    def read(case: dict[str, str]) -> str:
        answer: str = package.generate(context=case["text"], question=case["question"], prompt=job["prompt"], temperature=None, max_new_tokens=job["max_new_tokens"])
        return answer

    read(job["warm_up"])
    notes.take()
    rows = []
    for case in job["cases"]:
        start = time.perf_counter()
        peak, answer = memory.peak_mb(partial(read, case))
        seconds = time.perf_counter() - start
        windows = notes.take()
        rows.append({"id": case["id"], "seconds": seconds, "scan_seconds": sum(w["seconds"] for w in windows), "peak_mb": peak, "answer": answer, "windows": windows})
        print(f"peer: {case['id']} {seconds:.2f} s", file=sys.stderr, flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("infini-retri", "torch", "transformers")}
    Path(result_path).write_text(json.dumps({"versions": versions, "rows": rows}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
