"""The whole chain on one page: documents → segments → graph → layout → KV → answer.

Read :meth:`GraphKV.ask` first; every other method is a shorter or longer walk along the same chain.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphkv.answer import Reading, graph_answer
from graphkv.assemble import AssembledContext, assemble
from graphkv.encode import EncodedContext, encode_context, packed_logits
from graphkv.errors import InputError, check_count
from graphkv.generate import complete, decoding, question_batch, score, stream
from graphkv.layout import Layout
from graphkv.layouts import make_layout
from graphkv.model import GraphModel
from graphkv.progress import late_progress
from graphkv.prompt import PromptTemplate, template_of
from graphkv.store import Store, open_store
from graphkv.strategies import GRAPH, Request, find_strategy
from graphkv.strategy import Answer, Score, Timings
from graphkv.tokens import Documents, Text, TokenReader, Tokens
from graphkv.window import check_window


class GraphKV:
    """A language model that reads a graph of documents.

    Args:
        model: a :class:`graphkv.model.GraphModel`; :meth:`from_pretrained` makes one.
        store: where encoded blocks are kept: a :class:`graphkv.store.Store`, a folder or address for :func:`graphkv.store.open_store`, or
            nothing for the default store, a folder in the user's cache that later processes find again.
        template: the text around documents and question; read off the tokenizer's chat template by default.
        max_segment_tokens: longer documents become chains of segments; a graph's own setting comes first.
        batch_tokens: tokens encoded in one forward.

    Example:
        >>> engine = GraphKV.from_pretrained()  # doctest: +SKIP
        >>> print(engine.ask(SegmentGraph.from_jsonl("papers.jsonl"), "Who wrote Night Maple?"))  # doctest: +SKIP
    """

    def __init__(
        self,
        model: GraphModel,
        *,
        store: Store | str | Path | None = None,
        template: PromptTemplate | None = None,
        max_segment_tokens: int | None = None,
        batch_tokens: int = 4096,
    ) -> None:
        if store is not None and not isinstance(store, Store | str | Path):
            raise InputError(f"store must be a Store, or the place of one (a folder, an address, 'memory'), got {type(store).__name__}")
        if template is not None and not isinstance(template, PromptTemplate):
            raise InputError(f"template must be a PromptTemplate, got {type(template).__name__}")
        check_count("batch_tokens", batch_tokens)
        if max_segment_tokens is not None:
            check_count("max_segment_tokens", max_segment_tokens)
        self.model = model
        self.store = store if isinstance(store, Store) else open_store(store)
        self.template = template or template_of(model.tokenizer)
        self.max_segment_tokens = max_segment_tokens
        self.batch_tokens = batch_tokens
        self.reader = TokenReader(model, self.template, max_segment_tokens)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | tuple[Any, Any] | None = None,
        *,
        dtype: str | torch.dtype | None = None,
        device_map: Any = None,
        kernel: str | None = None,
        trust_remote_code: bool = False,
        store: Store | str | Path | None = None,
        template: PromptTemplate | None = None,
        max_segment_tokens: int | None = None,
        **model_kwargs: Any,
    ) -> GraphKV:
        """Load a model.

        Args:
            model: nothing for the embedded model; a path; a hub id; or a loaded ``(model, tokenizer)`` pair.
            dtype, device_map, trust_remote_code, model_kwargs: as in transformers.
            kernel: attention kernel for encoding (``dense``, ``gather``, ``flex``, ``varlen``).
            store, template, max_segment_tokens: as in :class:`GraphKV`.

        Raises:
            ModelError: not found or unreadable. UnsupportedModelError: a feature that cannot be served.
            KernelError: an unknown kernel, or one that cannot run here.
        """
        if isinstance(model, tuple):
            if len(model) != 2:
                raise InputError(f"expected a pair (model, tokenizer), got {len(model)} things")
            settings = {"dtype": dtype, "device_map": device_map, "trust_remote_code": trust_remote_code or None}
            given = sorted(model_kwargs) + [name for name, value in settings.items() if value is not None]
            if given:
                raise InputError(f"{', '.join(given)} cannot be set on a model that is loaded already: load it with them")
            loaded = GraphModel(*model, kernel=kernel)
        else:
            loaded = GraphModel.load(model, dtype=dtype, device_map=device_map, trust_remote_code=trust_remote_code, kernel=kernel, **model_kwargs)
        return cls(loaded, store=store, template=template, max_segment_tokens=max_segment_tokens)

    def ask(self, graph: Documents, question: str, *, strategy: str = GRAPH, max_new_tokens: int | None = None, **options: Any) -> Answer:
        """Answer one question from the documents of a graph.

        Args:
            graph: a :class:`SegmentGraph`, or a list of documents as :meth:`SegmentGraph.from_documents` takes them.
            question: the question's text.
            strategy: the way through the documents: ``graph`` is the chain on this page; ``full_context``, ``infini_retri``, ``landmark``
                and whatever else is installed: :func:`graphkv.strategies.strategy_names`.
            max_new_tokens: 64 by default; fewer if the model's window ends before.
            options: for every strategy `prefix` (text or ids in place of the template's), `stop` (a string or several), `answer_prefix`
                (words that the answer begins with), `generation_config` (sampling; greedy without one); for ``graph`` `layout`, a name of
                :data:`graphkv.layouts.LAYOUTS`, and the layout's own options (`rounds`, `view`, `positions`, `prefix_visible`, `m`,
                `tiers`, `temperature`, `scale`); another strategy's options are in its ``ask_many``.

        Raises:
            InputError: one of its kinds, before any work is done: see :mod:`graphkv.errors`.
        """
        return self.ask_many(graph, [question], strategy=strategy, max_new_tokens=max_new_tokens, **options)[0]

    def ask_many(
        self,
        graph: Documents,
        questions: Sequence[Text],
        *,
        strategy: str = GRAPH,
        max_new_tokens: int | None = None,
        prefix: Text | None = None,
        stop: str | Sequence[str] | None = None,
        answer_prefix: str = "",
        generation_config: Any = None,
        batch_size: int = 16,
        **options: Any,
    ) -> list[Answer]:
        """Answer several questions about one graph: the context is encoded once, the questions are decoded as batches.

        Arguments as in :meth:`ask`; `batch_size` questions are decoded together. Near the end of the model's window the
        longest question decides how long every answer may be. In each answer `tokens_computed` counts
        the context's tokens only if they were encoded in this call.
        """
        request = Request.of(max_new_tokens, prefix, stop, generation_config, batch_size, answer_prefix)
        if strategy == GRAPH:
            return self._ask_graph(graph, questions, request, **options)
        way = find_strategy(strategy)
        way.check_options(list(options))
        if isinstance(questions, str) or not isinstance(questions, Sequence) or not questions:
            raise InputError(f"expected a list of at least one question, got {questions!r}; for one question use ask()")
        return way.ask_many(self, graph, questions, request, **options)

    def stream(
        self,
        graph: Documents,
        question: str,
        *,
        layout: str = "graph",
        max_new_tokens: int | None = None,
        prefix: Text | None = None,
        stop: str | Sequence[str] | None = None,
        answer_prefix: str = "",
        generation_config: Any = None,
        **options: Any,
    ) -> Iterator[str]:
        """The answer of :meth:`ask` by ``graph``, in pieces as it is decoded. Bad input is refused at the call, not at the first piece."""
        request = Request.of(max_new_tokens, prefix, stop, generation_config, answer_prefix=answer_prefix)
        tokens = self.reader.read(graph, [question], prefix, answer_prefix=answer_prefix)
        plan = self._plan(tokens, layout, options)
        config = self._generation(plan, tokens, request)

        def pieces() -> Iterator[str]:
            context = assemble(self.model, self._encode(plan, tokens))
            yield from stream(self.model, context, tokens.questions[0], config)

        return pieces()

    def encode(self, graph: Documents, *, layout: str = "graph", prefix: Text | None = None, **options: Any) -> EncodedContext:
        """Encode now, answer later: everything that `layout` needs goes into the store.

        Raises:
            InputError: as :meth:`ask` does. StoreError: the store has no room or cannot be written to.

        Example:
            >>> engine.encode(graph).tokens_computed, engine.encode(graph).tokens_computed  # doctest: +SKIP
            (812, 0)
        """
        tokens = self.reader.read(graph, [()], prefix)
        return self._encode(self._plan(tokens, layout, options), tokens, must_store=True)

    def plan(self, graph: Documents, question: Text = (), *, layout: str = "graph", prefix: Text | None = None, **options: Any) -> Layout:
        """The layout that :meth:`ask` would use: blocks, positions, who reads whom, what it costs. ``print()`` it, or ``.draw(path)`` it.

        Raises:
            InputError: whatever :meth:`ask` refuses about documents, layout, options and lengths.
        """
        tokens = self.reader.read(graph, [question], prefix)
        return self._plan(tokens, layout, options)

    def logits(
        self, graph: Documents, question: Text, *, layout: str = "graph", prefix: Text | None = None, packed: bool = False, impl: str | None = None, **options: Any
    ) -> Tensor:
        """Next-token logits ``[T_question, vocab]`` after each token of the question.

        Nothing is added: no template, BOS or separator. A text segment is read as its bare text, without its title.

        Args:
            question, prefix: text, or token ids.
            packed: compute everything in one packed forward instead of block by block (no store; gradients flow).
            impl: with ``packed=True``, the attention kernel.
            options: the layout's own.

        Raises:
            LayoutError: ``packed=True`` with a layout that exists only as a staged procedure.
        """
        tokens = self.reader.read(graph, [question], () if prefix is None else prefix, raw=True)
        plan = self._plan(tokens, layout, options)
        if not plan.question.length:
            raise InputError("the question is empty: logits need at least one token")
        if packed:
            return packed_logits(self.model, plan, tokens.segments, tokens.prefix, tokens.questions[0], impl=impl)
        if impl is not None:
            raise InputError("impl chooses the kernel of one packed forward: pass packed=True, or kernel= when the model is loaded")
        context = assemble(self.model, self._encode(plan, tokens))
        ids, positions, mask = question_batch(self.model, context, tokens.questions)
        return self.model.answer_logits(self.model.cache(context.keys, context.values), ids, positions, mask, context.reweigh)[0]

    def score(
        self,
        graph: Documents,
        question: Text,
        continuations: Sequence[Text],
        *,
        layout: str = "graph",
        prefix: Text | None = None,
        raw: bool = False,
        batch_size: int = 16,
        **options: Any,
    ) -> list[Score]:
        """Log-likelihood of each continuation after the question; a :class:`Score` is a float that also knows `tokens` and `is_greedy`.

        Args:
            continuations: text or token ids, tokenised by themselves and spliced (write the space in front of a word).
            raw: as in :meth:`logits`: bare texts, nothing added. By default the prompt is the one of :meth:`ask`.

        Raises:
            InputError: no continuation, an empty one, or anything that :meth:`ask` refuses.

        Example:
            >>> yes, no = engine.score(graph, "Is it so?", [" Yes", " No"])  # doctest: +SKIP
        """
        if isinstance(continuations, str) or not isinstance(continuations, Sequence) or not continuations:
            raise InputError(f"expected a list of at least one continuation, got {continuations!r}")
        check_count("batch_size", batch_size)
        tokens = self.reader.read(graph, [question], prefix if prefix is not None or not raw else (), raw=raw)
        plan = self._plan(tokens, layout, options)
        ids = [self.reader.ids(c) for c in continuations]
        if not plan.question.length or any(not c for c in ids):
            raise InputError("score needs a question and continuations of at least one token each")
        check_window(self.model, plan.with_question(plan.question.length + max(len(c) for c in ids)))
        context = assemble(self.model, self._encode(plan, tokens))
        return score(self.model, context, tokens.questions[0], ids, batch_size)

    def assembled(self, graph: Documents, *, layout: str = "graph", prefix: Text | None = None, **options: Any) -> AssembledContext:
        """The cache that a question would read: rotated keys and values by layer. For those who decode themselves."""
        return assemble(self.model, self.encode(graph, layout=layout, prefix=prefix, **options))

    # The steps of the chain.

    def _ask_graph(self, graph: Documents, questions: Sequence[Text], request: Request, *, layout: str = "graph", **options: Any) -> list[Answer]:
        """The chain: documents and questions → tokens → layout → KV → cache → answers."""
        begin = time.perf_counter()
        tokens = self.reader.read(graph, questions, request.prefix, answer_prefix=request.answer_prefix)
        plan = self._plan(tokens, layout, options)
        config = self._generation(plan, tokens, request)
        planned = time.perf_counter()
        encoded = self._encode(plan, tokens)
        encoded_at = time.perf_counter()
        context = assemble(self.model, encoded)
        assembled = time.perf_counter()
        answers: list[Answer] = []
        for start in range(0, len(questions), request.batch_size):
            part = tokens.questions[start : start + request.batch_size]
            completions, first = complete(self.model, context, part, config)
            timings = Timings(planned - begin, encoded_at - planned, assembled - encoded_at, first - begin, time.perf_counter() - begin)
            reading = Reading(plan, tokens.graph, encoded.reused, encoded.tokens_reused, encoded.tokens_computed)
            answers += [graph_answer(c, reading, len(q), timings) for c, q in zip(completions, part, strict=True)]
        return answers

    def _plan(self, tokens: Tokens, layout: str, options: Mapping[str, Any]) -> Layout:
        """Graph → layout, checked against the model's window."""
        longest = max((len(q) for q in tokens.questions), default=0)
        lengths = {id: len(ids) for id, ids in tokens.segments.items()}
        plan = make_layout(layout, tokens.graph, lengths, prefix=len(tokens.prefix), question=longest, **options)
        check_window(self.model, plan)
        return plan

    def _encode(self, plan: Layout, tokens: Tokens, must_store: bool = False) -> EncodedContext:
        """Layout → KV, from the store or by encoding."""
        with late_progress("encoding tokens") as progress:
            settings: dict[str, Any] = {"batch_tokens": self.batch_tokens, "progress": progress, "must_store": must_store}
            return encode_context(self.model, self.store, plan, tokens.segments, tokens.prefix, **settings)

    def _generation(self, plan: Layout, tokens: Tokens, request: Request) -> Any:
        if not all(tokens.questions):
            raise InputError("the question is empty: expected some text")
        used = plan.question.answer_position + plan.question.length
        config = decoding(self.model, used, request.max_new_tokens, request.stop, request.generation_config)
        if self.model.sliding_window is not None:
            check_window(self.model, plan, new_tokens=config.max_new_tokens)
        return config
