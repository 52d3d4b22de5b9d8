"""InfiniRetriCompressor, and the excerpts under it."""

from __future__ import annotations

import pytest
from helpers import tiny_engine
from langchain_core.documents import Document
from pydantic import ValidationError

from graphkv import DocumentError, GraphKV, InputError, LengthError
from graphkv.langchain import InfiniRetriCompressor
from graphkv_retrieval.excerpts import excerpts

QUESTION = "Which lab does Delta Thunder come from?"


@pytest.fixture
def compressor(embedded: GraphKV) -> InfiniRetriCompressor:
    return InfiniRetriCompressor(engine=embedded, budget=40)


async def test_the_sentence_that_answers_is_kept(compressor: InfiniRetriCompressor, embedded: GraphKV, papers: list[Document]) -> None:
    kept = compressor.compress_documents(papers, QUESTION)
    by_id = {document.id: document for document in kept}
    assert "Delta Thunder comes from Zerrentik." in by_id["paper6"].page_content and len(kept) < len(papers)
    assert sum(len(embedded.reader.ids(document.page_content)) for document in kept) <= 40
    assert sum(document.metadata["relevance_score"] for document in kept) == pytest.approx(1.0, abs=0.05)
    assert await compressor.acompress_documents(papers, QUESTION) == kept


def test_what_is_kept_is_the_documents_own_words(compressor: InfiniRetriCompressor, papers: list[Document]) -> None:
    """Sentence by sentence, in order, without titles; the rest of the document stays as it is."""
    of = {paper.id: paper for paper in papers}
    for document in compressor.compress_documents(papers, QUESTION):
        whole, place = of[document.id].page_content, 0
        for sentence in document.page_content.replace(". ", ".\n").split("\n"):
            place = whole.index(sentence, place)
        assert document.metadata == {**of[document.id].metadata, "relevance_score": document.metadata["relevance_score"]}


def test_more_text_than_the_window_holds(embedded: GraphKV, papers: list[Document]) -> None:
    """The needle stands in the middle, and no document has an id."""
    filler = [Document(page_content=f"The grass is green in year {i}. The sky is blue. The sun is yellow. Here we go again.") for i in range(350)]
    assert sum(len(embedded.reader.ids(document.page_content)) for document in filler) > embedded.model.window
    needle = Document(page_content=papers[5].page_content)
    kept = InfiniRetriCompressor(engine=embedded, budget=100).compress_documents([*filler[:170], needle, *filler[170:]], QUESTION)
    assert any("Zerrentik" in document.page_content for document in kept)


def test_empty_documents_and_none(compressor: InfiniRetriCompressor, papers: list[Document]) -> None:
    assert compressor.compress_documents([], QUESTION) == []
    assert compressor.compress_documents([Document(page_content=" ")], QUESTION) == []
    assert compressor.compress_documents([Document(page_content=" "), papers[5]], QUESTION)[0].id == "paper6"


def test_passages_of_any_tokenizer() -> None:
    """Bytes: characters of several tokens, no template but the plain one; with everything kept the text comes back whole."""
    text = "Über Ahörner. Ein Fluß! Nachts schläft er. 東京。"
    (found,) = excerpts(tiny_engine(), [{"id": "a", "text": text, "title": "Ein Fluß!"}], "Wo?")
    assert found.id == "a" and found.passages == (text,)
    few = excerpts(tiny_engine(), [{"id": "a", "text": text, "title": "Ein Fluß!"}], "Wo?", top_tokens=1, phrase=1)
    assert all(passage in text for excerpt in few for passage in excerpt.passages)


def test_parts_of_a_long_document_are_one_document(embedded: GraphKV, papers: list[Document]) -> None:
    engine = GraphKV(embedded.model, store="memory", max_segment_tokens=64)
    whole = {"id": "all", "text": " ".join(paper.page_content for paper in papers)}
    (found,) = excerpts(engine, [whole], QUESTION, budget=200)
    assert found.id == "all" and len(found.passages) > 1 and all(passage in whole["text"] for passage in found.passages)


def test_what_cannot_be_meant_is_refused(embedded: GraphKV, papers: list[Document]) -> None:
    with pytest.raises(ValidationError, match="not both"):
        InfiniRetriCompressor(engine=embedded, model="x")
    with pytest.raises(ValidationError, match="Extra inputs"):
        InfiniRetriCompressor(budgte=3)
    with pytest.raises(DocumentError, match="document 0: expected a LangChain document"):
        InfiniRetriCompressor(engine=embedded).compress_documents(["text"], QUESTION)  # type: ignore[list-item]
    with pytest.raises(InputError, match="question is empty"):
        InfiniRetriCompressor(engine=embedded).compress_documents(papers, " ")
    with pytest.raises(LengthError, match="budget"):
        InfiniRetriCompressor(engine=embedded, budget=10**6).compress_documents(papers, QUESTION)
    with pytest.raises(InputError, match="layers"):
        InfiniRetriCompressor(engine=embedded, layers=99).compress_documents(papers, QUESTION)
