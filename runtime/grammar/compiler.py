"""Types to grammars, each compiled once.

Compiling and every later step are bounded: what is too complex is refused within about a second,
whatever the pattern. Knows no sequence and no sampling.
"""

from collections import OrderedDict
from collections.abc import Collection
from functools import cached_property

from llguidance import LLMatcher, LLParserLimits

from ramet.runtime.errors import GrammarError
from ramet.runtime.grammar.source import engine_source, refuse
from ramet.runtime.grammar.state import Grammar
from ramet.runtime.grammar.vocabulary import Vocabulary
from ramet.runtime.tokenizer import Tokenizer
from ramet.types import Type

# Fuel is work on regular expressions: 50,000 a millisecond at first and 14,000 in a step, says the
# engine. (a{500}){500} takes 0.3 s a step with the engine's own 200,000; ordinary JSON needs a
# tenth. A lexer state takes one or two KiB, and all texts of a grammar share them.
_LIMITS = LLParserLimits(
    initial_lexer_fuel=500_000,
    step_lexer_fuel=100_000,
    max_lexer_states=100_000,
    verbose_errors=False,
)


class GrammarCompiler:
    """Compiles for one tokenizer and a model with `vocab_size` tokens, of which `eos` end a text.

    Grammars are kept, the least recently used go first: at most `most` of them, with sources of
    at most `most_bytes`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocab_size: int,
        eos: Collection[int],
        *,
        most: int = 64,
        most_bytes: int = 1 << 20,
    ) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos = frozenset(eos)
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Type, Grammar] = OrderedDict()

    def start(self, type: Type) -> Grammar:
        """A text of this type, before its first token.

        Raises:
            GrammarError: the pattern, schema or grammar is wrong, too complex, or allows no text
                but the empty one; or the tokens of this model stand for no bytes.
        """
        kept = self._kept.get(type)
        if kept is None or kept.broken:
            kept = self._kept[type] = self._compiled(type)
            while len(self._kept) > 1 and self._too_many:
                self._kept.popitem(last=False)
        self._kept.move_to_end(type)
        return kept.copy()

    @property
    def _too_many(self) -> bool:
        size = sum(len(type.source.encode()) for type in self._kept)
        return len(self._kept) > self._most or size > self._most_bytes

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        """Built with the first grammar: reading the bytes of 50,000 tokens takes 0.2 s."""
        return Vocabulary(self._tokenizer, self._vocab_size, self._eos)

    def _compiled(self, type: Type) -> Grammar:
        if not self._tokenizer.exact_bytes:
            raise GrammarError(
                type.kind, type.source, "the tokens of this model's tokenizer stand for no bytes"
            )
        matcher = LLMatcher(
            self._vocabulary.engine, engine_source(type), log_level=0, limits=_LIMITS
        )
        if matcher.is_error():
            refuse(type, matcher.get_error())
        return Grammar(type, matcher, self._vocabulary).begun()
