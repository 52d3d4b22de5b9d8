"""The official OpenAI client against `graphkv serve`: documents and their graph go in beside the messages, citations come back.

    graphkv serve &
    python examples/openai_client.py
    python examples/openai_client.py --base-url http://127.0.0.1:8000/v1 "Which lab does Delta Thunder come from?"

Where the server wants a key, it is read from GRAPHKV_API_KEY.
"""

import argparse
import json
import os
from pathlib import Path

from openai import APIConnectionError, OpenAI

import graphkv

PAPERS = Path(graphkv.__file__).parent / "demo" / "papers.jsonl"
QUESTIONS = ["Who is the author of the paper extended by Violet Oak?", "Which dataset does the paper that Temple Ruby compares against use?"]

parser = argparse.ArgumentParser()
parser.add_argument("questions", nargs="*", default=QUESTIONS)
parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
arguments = parser.parse_args()

client = OpenAI(base_url=arguments.base_url, api_key=os.environ.get("GRAPHKV_API_KEY", "none").split(",")[0])
papers = [json.loads(line) for line in PAPERS.read_text(encoding="utf-8").splitlines()]
documents = [{"id": paper["id"], "title": paper["title"], "text": paper["text"]} for paper in papers]
edges = [[source, paper["id"]] for paper in papers for source in paper["sources"]]  # source → target: the target reads the source
beside = {"documents": documents, "graph": {"edges": edges, "layout": "graph"}}

try:
    model = client.models.list().data[0].id
except APIConnectionError:
    raise SystemExit(f"no server at {arguments.base_url}: start one with `graphkv serve`, or name its address with --base-url") from None

for question in arguments.questions:
    reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}], extra_body=beside)
    message, usage = reply.choices[0].message, reply.usage
    print(f"{question}\n{message.content}")
    for citation in message.citations:
        sources = ", ".join(f"{source['document']['title']} ({source['score']:.0%})" for source in citation["sources"])
        print(f"    {citation['text']!r} was read from {sources}")
    print(f"    {usage.prompt_tokens} tokens in the prompt, {usage.prompt_tokens_details.cached_tokens} of them were encoded already")

print("\nThe last answer once more, as a stream:")
messages = [{"role": "user", "content": arguments.questions[-1]}]
for chunk in client.chat.completions.create(model=model, messages=messages, extra_body=beside, stream=True):
    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)
print()
