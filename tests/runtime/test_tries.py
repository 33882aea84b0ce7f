"""Draws before the mask is known: the same tokens, or the same distribution, for fewer masks."""

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch

from ramet.params import SamplingParams
from ramet.runtime import Engine
from ramet.runtime.grammar import Grammar, GrammarCompiler
from ramet.runtime.sampling import Sampler, SamplingRow
from ramet.types import Type
from tests.runtime.conftest import ToyEngine, all_back
from tests.runtime.grammar.walks import allowed
from tests.runtime.sampling.test_grammar import BYTES, EOS, VOCAB, ids
from tests.runtime.test_forced import random_request, told


@pytest.fixture
def grammars() -> Iterator[GrammarCompiler]:
    made = GrammarCompiler(BYTES, VOCAB, {EOS})
    yield made
    made.close()


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Iterator[Engine]:
    made = toy_engine()
    yield made
    assert all_back(made.core)


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on every draw waits for its mask."""
    return lambda: monkeypatch.setattr(SamplingRow, "tries", False)


def test_greedy_texts_are_the_same(engine: Engine, masked: Callable[[], None]) -> None:
    rng = random.Random(11)
    requests = [random_request(rng) | {"temperature": 0.0, "n": 1} for _ in range(80)]

    def run() -> list[object]:
        return [told(engine.generate(f"{i}: ", **each)[0]) for i, each in enumerate(requests)]

    tried = run()
    masked()
    assert tried == run()


def test_sampled_tokens_have_the_same_distribution(grammars: GrammarCompiler) -> None:
    """Chi-squared against the softmax of what is allowed; some 0.4 of the first draws stray."""
    params = SamplingParams(temperature=0.8)
    grammar = grammars.start(Type("regex", "[a-h]{2}"))
    inside = ids(b"abcdefgh")
    assert allowed(grammar) == inside
    logits = torch.full((1, VOCAB), -9.0)
    logits[0, inside] = torch.linspace(0, 2, len(inside))
    logits[0, ids(b"z")[0]] = 2.9
    expected = (logits[0, inside] / params.temperature).softmax(-1)

    draws, strays = 4000, 0
    counts: Counter[int] = Counter()
    row = SamplingRow(params, key=5, vocab_size=VOCAB, eos_ids={EOS}, grammar=grammar)
    for position in range(draws):
        (draw,) = Sampler().sample(logits.clone(), [row], [position])
        if row.strays(draw.token):
            strays += 1
            (draw,) = Sampler().sample(logits.clone(), [row], [position])
        row.accept(draw.token)
        counts[draw.token] += 1
    assert draws / 4 < strays < draws * 3 / 4
    found = torch.tensor([counts[token] for token in inside])
    assert found.sum() == draws
    chi_squared = ((found - draws * expected) ** 2 / (draws * expected)).sum()
    assert chi_squared < 24.3, "over the 0.999 quantile with 7 degrees of freedom"


def test_a_text_that_can_end_gets_its_mask(grammars: GrammarCompiler) -> None:
    """Its end has the mass of all that is ruled out, which nobody knows before the mask."""
    grammar = grammars.start(Type("regex", "[a-h]{1,3}"))
    row = SamplingRow(SamplingParams(), key=5, vocab_size=VOCAB, eos_ids={EOS}, grammar=grammar)
    assert row.tries
    row.accept(ids(b"a")[0])
    grammar.accept(ids(b"a")[0])
    assert not row.tries


def test_what_goes_along_with_its_grammar_needs_no_masks(
    engine: Engine, masked: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    next_mask = Grammar._next
    monkeypatch.setattr(Grammar, "_next", lambda self: (found.append(1), next_mask(self))[1])
    letters = dict.fromkeys(ids(b"abcdefghijklmnopqrstuvwxyz"), 60.0)

    def run() -> int:
        found.clear()
        text = {"regex": "[a-z ]{200,}", "logit_bias": letters, "max_tokens": 20}
        (cut,) = engine.generate("Any: ", **text)
        assert "before it was a whole regex" in str(cut)
        return len(found)

    assert run() <= 2, "one where it begins"
    masked()
    assert run() >= 20


def test_after_one_that_strayed_the_mask_is_there_in_time(
    grammars: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = grammars.start(Type("regex", "[a-h]{9}"))
    row = SamplingRow(SamplingParams(), key=5, vocab_size=VOCAB, eos_ids={EOS}, grammar=grammar)
    a, z = ids(b"az")
    assert row.strays(z)
    assert not row.tries
    row.accept(a)
    assert row.tries
    assert row.wary, "it looks ahead"
    assert not row.strays(a)
    row.accept(a)
    assert not row.wary


@pytest.mark.parametrize(
    "params",
    [{"top_p": 0.9}, {"top_k": 4}, {"min_p": 0.1}, {"logprobs": 0}, {"allowed_tokens": [97, 98]}],
)
def test_what_depends_on_the_mask_waits_for_it(
    grammars: GrammarCompiler, params: dict[str, object]
) -> None:
    made = SamplingParams(temperature=1.0, **params)  # type: ignore[arg-type]
    for pattern, tries in (("[a-h]{2}", not params), ("[a-h]*", False)):
        grammar = grammars.start(Type("regex", pattern))
        row = SamplingRow(made, key=5, vocab_size=VOCAB, eos_ids={EOS}, grammar=grammar)
        assert row.tries is tries


def test_allows_what_the_mask_holds(grammars: GrammarCompiler) -> None:
    for pattern in ("[a-c]{2}x", "abc|abd", "é+z"):
        for known in (False, True):
            grammar = grammars.start(Type("regex", pattern))
            if known:
                grammar.mask()
            one_by_one = [token for token in range(VOCAB) if grammar.allows(token)]
            assert one_by_one == [token for token in allowed(grammar) if token != EOS]
