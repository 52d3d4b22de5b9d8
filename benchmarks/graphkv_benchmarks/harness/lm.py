"""Model ``graphkv`` of lm_eval: documents and edges of a task's row are read by a layout; a row without documents is read as lm_eval's ``hf`` reads it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jinja2
import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from graphkv.engine import GraphKV
from graphkv.errors import InputError, check_count, one_of
from graphkv.graph import SegmentGraph
from graphkv.store import Store
from graphkv.store.memory import MemoryStore
from graphkv.strategies import GRAPH

from . import parts_of_lm_eval
from .asked import Asked, GraphReader, named
from .plain import check_continuation, generate_prompts, room_for_prompts, score_pairs
from .rows import RowGraphs
from .settings import Decoding, same_settings

with parts_of_lm_eval():
    from lm_eval.api.model import TemplateLM  # type: ignore[import-untyped]
    from lm_eval.api.registry import register_model  # type: ignore[import-untyped]
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # type: ignore[import-untyped]

log = logging.getLogger(__name__)

STORE_BYTES = 4 * 2**30
"""Budget of the store in memory; what was used longest ago makes room."""


@register_model("graphkv")
class GraphKVLM(TemplateLM):  # type: ignore[misc]
    """An engine as a model of lm_eval.

    Every argument can stand in lm_eval's ``--model_args``; what is not listed is an option of the layout (``rounds=2``) or the strategy.

    Args:
        pretrained: a folder or a hub id, nothing for the embedded model; in Python also an engine, or a pair (model, tokenizer).
        dtype, device, trust_remote_code: as in transformers.
        layout: how documents are read, ``graph`` by default. strategy: a way through the documents in place of ``graph``.
        raw: put nothing around documents and question (see ``docs/lm_eval.md``); by default the model's own prompt stands around them.
        documents_key, edges_key, graph_key: where a row has its documents, see :class:`RowGraphs`.
        max_segment_tokens: longer documents become chains of segments. store: a place for encoded documents; memory without one.
        batch_size: prompts, questions or continuations in one forward. max_gen_toks: the longest answer where a task names none.

    Raises:
        InputError: a value that cannot be meant, an unknown layout, strategy or option. ModelError: the model cannot be loaded.

    Example:
        >>> lm = GraphKVLM(layout="graph", rounds=2)  # doctest: +SKIP
        >>> lm_eval.simple_evaluate(lm, tasks=["my_task"])["results"]  # doctest: +SKIP
    """

    backend = "causal"

    def __init__(
        self,
        pretrained: str | tuple[Any, Any] | GraphKV | None = None,
        *,
        dtype: str | None = None,
        device: str | None = None,
        trust_remote_code: bool = False,
        layout: str | None = None,
        strategy: str = GRAPH,
        raw: bool = False,
        documents_key: str | None = "documents",
        edges_key: str | None = "edges",
        graph_key: str | None = "graph",
        max_segment_tokens: int | None = None,
        store: Store | str | None = None,
        batch_size: int | str = 16,
        max_batch_size: int | None = None,
        max_gen_toks: int = 256,
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(batch_size, str) and batch_size.isdigit():
            batch_size = int(batch_size)
        if not isinstance(batch_size, int) or max_batch_size is not None:
            got = f"{batch_size!r}{' with max_batch_size' if max_batch_size is not None else ''}"
            raise InputError(f"batch_size must be a whole number, got {got}: sizes are not tried out here")
        check_count("batch_size", batch_size)
        check_count("max_gen_toks", max_gen_toks)
        for name, flag in (("raw", raw), ("trust_remote_code", trust_remote_code)):
            if not isinstance(flag, bool):
                raise InputError(f"{name} must be true or false, got {flag!r}")
        self.engine = _engine(pretrained, dtype, device, trust_remote_code, max_segment_tokens, store)
        self.tokenizer = self.engine.model.tokenizer
        if self.tokenizer is None or self.tokenizer.eos_token_id is None:
            raise InputError("lm_eval needs a tokenizer with an end token")
        self.rows = RowGraphs(documents_key, edges_key, graph_key)
        self._batch_size, self._max_gen_toks = batch_size, max_gen_toks
        self._rendered: set[bytes] = set()
        """Digests of the prompts that a chat template has rendered."""
        self.reading = GraphReader(self.engine, layout, options, strategy, raw, self._opening() if raw else ())

    @property
    def eot_token_id(self) -> int:
        """The end token; it ends answers, and stands for an empty context where there is no BOS."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands in front of a text without a context."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def max_length(self) -> int:
        """The model's window in tokens."""
        return self.engine.model.window

    @property
    def max_gen_toks(self) -> int:
        """The longest answer where a task names none."""
        return self._max_gen_toks

    @property
    def batch_size(self) -> int:
        """Prompts in one forward."""
        return self._batch_size

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.engine.model.device

    @property
    def tokenizer_name(self) -> str:
        """For lm_eval's cache of requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids with what the tokenizer itself puts around a text, unless that is switched off or the text begins with it already."""
        if add_special_tokens is None and string.startswith(self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        ids: list[int] = self.tokenizer.encode(string, **({} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}))
        return ids

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text, by the tokenizer's template; a template without a system role gets none, as in lm_eval's ``hf``.

        Raises:
            InputError: the tokenizer has no chat template, or it cannot render this.
        """
        settings = {"tokenize": False, "add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        try:
            try:
                text: str = self.tokenizer.apply_chat_template(chat_history, **settings)
            except jinja2.TemplateError:
                text = self.tokenizer.apply_chat_template([m for m in chat_history if m["role"] != "system"], **settings)
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            raise InputError(f"the tokenizer's chat template cannot render the task's prompt ({error}): run without apply_chat_template") from error
        self._rendered.add(_digest(text))
        return text

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Called by lm_eval where it is to keep responses (``use_cache``).

        Raises:
            InputError: rows may have documents: its cache would answer before this model is asked, and knows a request by its text only.
        """
        if (self.rows.documents_key, self.rows.graph_key) != (None, None):
            raise InputError(
                "lm_eval's cache of responses (use_cache) knows requests by their text only, and would give rows with other documents the same answers: "
                "run without it, or without documents (documents_key=none, graph_key=none); encoded documents are kept in store=..."
            )
        super().set_cache_hook(cache_hook)

    def get_model_info(self) -> dict[str, Any]:
        """What lm_eval's results say about the model."""
        model, reading = self.engine.model, self.reading
        way = {"strategy": reading.strategy, "layout": reading.layout, "options": dict(reading.options), "raw": reading.raw}
        return {"model_num_parameters": model.model.num_parameters(), "model_dtype": str(model.dtype), "model_fingerprint": model.fingerprint, "graphkv": way}

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of each request's continuation, in order."""

        def plain(request: Any) -> tuple[list[int], list[int]]:
            with named(_where(request)):
                pair = self._pair(*request.args[:2])
                check_continuation(self.engine.model, pair[1])
            return pair

        def asked(request: Any, graph: SegmentGraph) -> Asked:
            return self.reading.asked(_where(request), graph, request.args[0], request.args[1], self._spliced)

        with self._bar(requests, "loglikelihood", disable_tqdm) as bar:
            read = partial(self.reading.score, batch_size=self.batch_size, done=bar.update)
            results: list[tuple[float, bool]] = self._by_kind(requests, asked, plain).served(read, partial(self._scored, done=bar.update))
        for request, result in zip(requests, results, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, result)
        return results

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of each whole text, in windows that do not overlap, as lm_eval defines it.

        Raises:
            InputError: a row with documents: a text alone is scored here.
        """
        pairs: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        for place, request in enumerate(requests):
            with named(_where(request)):
                if self._graph(request) is not None:
                    way = "use output_type loglikelihood, or documents_key=none"
                    raise InputError(f"a whole text is scored without documents, and this row has some: {way}")
            rolling = get_rolling_token_windows(self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length, 1)
            windows = [make_disjoint_window(w) for w in rolling]
            pairs += windows
            owners += [place] * len(windows)
        totals = [0.0] * len(requests)
        with tqdm(total=len(pairs), desc="Running loglikelihood_rolling windows", disable=disable_tqdm) as bar:
            for place, (score, _) in zip(owners, self._scored(pairs, bar.update), strict=True):
                totals[place] += score
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The answer to each request, in order."""

        def asked(request: Any, graph: SegmentGraph, how: Decoding) -> Asked:
            return self.reading.asked(_where(request), graph, request.args[0], None, self._spliced, how.max_new_tokens)

        def plain(request: Any, how: Decoding) -> list[int]:
            with named(_where(request)):
                room_for_prompts(self.engine.model, how)
                return self._prompt(request.args[0])

        groups: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(same_settings(request.args[1]), []).append(place)
        model, texts = self.engine.model, [""] * len(requests)
        checked: list[tuple[list[int], Decoding, _ByKind]] = []
        for places in groups.values():
            part = [requests[place] for place in places]
            with named(_where(part[0])):
                how = Decoding.of(part[0].args[1], self.max_gen_toks, model)
            checked.append((places, how, self._by_kind(part, partial(asked, how=how), partial(plain, how=how))))
        with self._bar(requests, "generate_until", disable_tqdm) as bar:
            for places, how, kinds in checked:
                settings: dict[str, Any] = {"how": how, "batch_size": self.batch_size, "done": bar.update}
                answers = kinds.served(partial(self.reading.generate, **settings), partial(generate_prompts, model, **settings))
                for place, text in zip(places, answers, strict=True):
                    texts[place] = text
                    self.cache_hook.add_partial("generate_until", requests[place].args, text)
        return texts

    def _loglikelihood_tokens(self, requests: list[Any], disable_tqdm: bool = False, **kwargs: Any) -> list[tuple[float, bool]]:
        return self._scored([(context, continuation) for _, context, continuation in requests])

    def _scored(self, pairs: Sequence[tuple[list[int], list[int]]], done: Callable[[int], object] = lambda _: None) -> list[tuple[float, bool]]:
        cut = sum(len(context) + len(continuation) > self.max_length + 1 for context, continuation in pairs)
        if cut:
            log.warning("%d of %d prompts are longer than the model's window of %d tokens and were cut on the left", cut, len(pairs), self.max_length)
        return score_pairs(self.engine.model, pairs, self.batch_size, done=done)

    def _by_kind(self, requests: Sequence[Any], asked: Callable[[Any, SegmentGraph], Asked], plain: Callable[[Any], Any]) -> _ByKind:
        """Requests over documents, as `asked` has them, and the others, as `plain` has them, all checked; nothing is read yet."""
        kinds = _ByKind()
        for place, request in enumerate(requests):
            with named(_where(request)):
                graph = self._graph(request)
            if graph is None:
                kinds.alone[place] = plain(request)
            else:
                with named(_where(request)):
                    self._check(request)
                kinds.over[place] = asked(request, graph)
        return kinds

    def _graph(self, request: Any) -> SegmentGraph | None:
        return self.rows.of(request.doc) if isinstance(request.doc, Mapping) else None  # some tasks have bare texts as rows

    def _check(self, request: Any) -> None:
        """A row with documents. Raises InputError where lm_eval's own settings do not go together with it."""
        if not self.reading.raw and _digest(request.args[0]) in self._rendered:
            raise InputError("the model's own prompt already stands around documents and question: run without apply_chat_template, or with raw=true")

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Context and continuation as lm_eval's ``hf`` tokenises them; an empty context is the prefix token, which the continuation may begin with itself."""
        if not context:
            ids = self.tok_encode(continuation, add_special_tokens=False)
            pair = (ids[:1], ids[1:]) if ids[:1] == [self.prefix_token_id] else ([self.prefix_token_id], ids)
        else:
            pair = self._split(context, continuation, None)
        if not pair[0] or not pair[1]:
            what = "continuation" if pair[0] else "context"
            raise InputError(f"the {what} has no tokens of its own: context {context[-40:]!r}, continuation {continuation[:40]!r}")
        return pair

    def _spliced(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The same behind documents, where nothing is put in front."""
        return self._split(context, continuation, False) if continuation else (self.tok_encode(context, add_special_tokens=False), [])

    def _split(self, context: str, continuation: str, special: bool | None) -> tuple[list[int], list[int]]:
        """Tokenised together and cut where the context ends; white space at its end belongs to the continuation."""
        bare = context.rstrip()
        whole = self.tok_encode(context + continuation, special)
        ids = self.tok_encode(bare, special)
        return ids, whole[len(ids) :]

    def _prompt(self, text: str) -> list[int]:
        ids = self.tok_encode(text)
        if not ids:
            raise InputError("the prompt is empty: expected some text")
        return ids

    def _opening(self) -> tuple[int, ...]:
        """What the tokenizer begins every text with, up to its BOS; what it puts at the end of a text is no part of it."""
        ids, bos = self.tok_encode(""), self.tokenizer.bos_token_id
        if bos in ids:
            return tuple(ids[: ids.index(bos) + 1])
        while ids and ids[-1] == self.eot_token_id:
            ids = ids[:-1]
        return tuple(ids)

    def _bar(self, requests: Sequence[Any], kind: str, disabled: bool) -> Any:
        return tqdm(total=len(requests), desc=f"Running {kind} requests", disable=disabled)


@dataclass(eq=False)
class _ByKind:
    """Requests over documents and those without, by their places."""

    over: dict[int, Asked] = field(default_factory=dict)
    alone: dict[int, Any] = field(default_factory=dict)

    def served(self, read: Callable[[list[Asked]], Sequence[Any]], run: Callable[[list[Any]], Sequence[Any]]) -> list[Any]:
        """Those over documents by `read`, the others by `run`; in order."""
        results: dict[int, Any] = {}
        if self.over:
            results |= zip(self.over, read(list(self.over.values())), strict=True)
        if self.alone:
            results |= zip(self.alone, run(list(self.alone.values())), strict=True)
        return [results[place] for place in sorted(results)]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _where(request: Any) -> str:
    return f"task {request.task_name or 'without a name'}, row {'?' if request.doc_id is None else request.doc_id}"


def _engine(pretrained: Any, dtype: str | None, device: str | None, trust: bool, max_segment_tokens: int | None, store: Store | str | None) -> GraphKV:
    loading = {"dtype": dtype, "device": device, "trust_remote_code": trust or None}
    making = {"max_segment_tokens": max_segment_tokens, "store": store}
    if isinstance(pretrained, GraphKV | tuple):
        made, settings = ("an engine", loading | making) if isinstance(pretrained, GraphKV) else ("a model", loading)
        if given := [name for name, value in settings.items() if value is not None]:
            raise InputError(f"{', '.join(given)} cannot be set on {made} that is there already: make it with {'them' if len(given) > 1 else 'it'}")
    if isinstance(pretrained, GraphKV):
        return pretrained
    names = ("auto", "bfloat16", "float16", "float32")
    if dtype is not None and dtype not in names:
        raise InputError(one_of("dtype", dtype, names))
    if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
        log.warning("device %s, lm_eval's default, is not there: the model is run on the CPU, as hf would be", device)
        device = None
    place = store if store is not None else MemoryStore(max_bytes=STORE_BYTES)
    where: dict[str, Any] = {} if isinstance(pretrained, tuple) else {"device_map": device, "trust_remote_code": trust}
    return GraphKV.from_pretrained(pretrained, dtype=dtype, store=place, max_segment_tokens=max_segment_tokens, **where)
