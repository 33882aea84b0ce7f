"""A tokenizer for models that are no language models: a token is a byte."""

from tokenizers import Tokenizer as Backend, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ramet.runtime.tokenizer import Tokenizer


def byte_tokenizer(*, words: bool = False) -> Tokenizer:
    """256 bytes and an end of text. `words` are parted first, as language models do: tokenizers
    keep what each was made into."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(
        models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<eos>"])
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>"))
