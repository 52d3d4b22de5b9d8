"""The recipe of the small model that ships with graphkv: data, tokenizer, training, evaluation, export."""
