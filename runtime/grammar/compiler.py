"""Types to grammars, each compiled once, beside the engine's loop.

Compiling and every later step are bounded: what is too complex is refused within about a second,
whatever the pattern, and the thread is free again. What has to be tried out first has a thread of
its own, so that it does not hold up what has not. Knows no sequence and no sampling.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property

from llguidance import LLMatcher, LLParserLimits

from ramet.runtime.errors import EngineClosed, GrammarError
from ramet.runtime.grammar.compilation import Compilation
from ramet.runtime.grammar.hazards import MOST_REPETITIONS, is_plain, repetitions
from ramet.runtime.grammar.source import behind, engine_source, refuse
from ramet.runtime.grammar.state import Grammar
from ramet.runtime.grammar.trial import Trial
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

    Grammars are kept, and what was refused, too; the least recently used go first: at most `most`
    of them, with sources of at most `most_bytes`. The threads begin with the first type, and end
    with `close`.
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
        self._kept: OrderedDict[tuple[Type, str], Compilation] = OrderedDict()
        self._compiling = ThreadPoolExecutor(1, "ramet-grammar")
        self._trying = ThreadPoolExecutor(1, "ramet-grammar-trial")
        self._masking = ThreadPoolExecutor(1, "ramet-mask")
        self._trial = Trial()
        self._waiting: dict[Compilation, list[Callable[[], None]]] = {}
        self.on_over: Callable[[], None] = lambda: None
        """Called from the thread whenever a type is compiled, or refused."""

    def start(self, type: Type) -> Grammar:
        """A text of this type, before its first token. Waits until it is compiled; raises what
        `Compilation.start` does."""
        return self.compile(type).start()

    def compile(self, type: Type, after: str = "") -> Compilation:
        """The type, on its way to its grammar or there already; its texts come `after` another,
        which they begin with as tokens. Raises `EngineClosed`."""
        key = type, after
        if key not in self._kept or self._kept[key].broken:
            self._kept[key] = self._begun(type, after)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self._too_many:
            self._kept.popitem(last=False)
        return self._kept[key]

    @contextmanager
    def telling(self, compilation: Compilation, call: Callable[[], None]) -> Iterator[None]:
        """While this is open, `deliver` makes the call, once, when the compilation is over. What
        nobody waits for any more is not begun."""
        calls = self._waiting.setdefault(compilation, [])
        calls.append(call)
        try:
            yield
        finally:
            calls.remove(call)
            if not calls:
                self._waiting.pop(compilation, None)
                compilation.give_up()

    def deliver(self) -> None:
        """Tell those who wait of the compilations that are over by now."""
        for compilation in [each for each in self._waiting if each.over]:
            for call in list(self._waiting.pop(compilation)):
                call()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for a compilation."""
        return bool(self._waiting)

    def close(self) -> None:
        """End the threads. What nobody has begun to compile never will be. Twice is fine."""
        threads = (self._compiling, self._trying, self._masking)
        for each in threads:
            each.shutdown(wait=False, cancel_futures=True)
        self._trial.stop()
        for each in threads:
            each.shutdown()

    # -- how

    def _begun(self, type: Type, after: str) -> Compilation:
        thread = self._compiling if _is_plain(type) else self._trying
        try:
            made = thread.submit(self._compiled, type, after)
        except RuntimeError:
            raise EngineClosed("the engine is closed") from None
        made.add_done_callback(lambda _: self.on_over())
        return Compilation(type, made)

    @property
    def _too_many(self) -> bool:
        size = sum(len(type.source.encode()) for type, _ in self._kept)
        return len(self._kept) > self._most or size > self._most_bytes

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        """Built with the first grammar: reading the bytes of 50,000 tokens takes 0.2 s."""
        return Vocabulary(self._tokenizer, self._vocab_size, self._eos)

    def _compiled(self, type: Type, after: str) -> Grammar:
        if not self._tokenizer.exact_bytes:
            raise GrammarError(
                type.kind, type.source, "the tokens of this model's tokenizer stand for no bytes"
            )
        source = engine_source(type)
        self._check_cost(type, source)
        grammar = self._begin(type, source)
        return self._begin(type, behind(after, source), after) if after else grammar

    def _check_cost(self, type: Type, source: str) -> None:
        try:
            many = repetitions(type) > MOST_REPETITIONS
        except RecursionError:
            refuse(type, "it is nested too deeply")
        if many:
            refuse(type, f"too many repetitions, over {MOST_REPETITIONS:,}")
        if not _is_plain(type) and not self._trial.survives(source):
            refuse(type, "compiling it takes too long")

    def _begin(self, type: Type, source: str, after: str = "") -> Grammar:
        matcher = LLMatcher(self._vocabulary.engine, source, log_level=0, limits=_LIMITS)
        if matcher.is_error():
            refuse(type, matcher.get_error())
        return Grammar(type, matcher, self._vocabulary, self._masking, after=after).begun()


def _is_plain(type: Type) -> bool:
    """Whether compiling it certainly costs little."""
    try:
        return is_plain(type)
    except RecursionError:
        return False
