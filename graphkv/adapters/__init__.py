"""graphkv in other people's pipelines, one file a library; each imports its library, and nothing else imports it.

    common.py        what they have in common: documents as a graph, settings, usage and citations
    huggingface.py   transformers: pipeline("graphkv-text-generation")
    llama_index.py   LlamaIndex: a language model; llama_index_nodes.py: nodes as a graph, a postprocessor, a response synthesizer
    haystack.py      Haystack: a chat generator
"""
