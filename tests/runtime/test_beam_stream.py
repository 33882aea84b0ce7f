"""What a beam search tells while it runs: text that is certain, and never takes back."""

import random
from typing import Any

import pytest

import ramet
from ramet.runtime import Engine, Event, Finished, TextDelta
from ramet.runtime.run import Run
from ramet.runtime.text import TextStream
from tests.runtime.beam_oracle import encoded
from tests.runtime.conftest import TOY_EOS, ToyEngine, all_back

pytestmark = pytest.mark.usefixtures("one_thread", "no_ties")


@ramet.program
def search(s: ramet.State, text: str, fields: Any) -> None:
    s += text
    s += ramet.gen("x", **fields)


@ramet.program
def branching(s: ramet.State, text: str, fields: Any) -> object:
    s += text
    return list(s.branch(ramet.gen("x", **fields))["x"])


class Listened:
    """A run, and what it told of each sample: (step, text)."""

    def __init__(self, engine: Engine, program: Any, **arguments: Any) -> None:
        self.engine = engine
        self.told: dict[int, list[tuple[int, str]]] = {}
        self.run: Run = engine.start(program, arguments, on_event=self.take)
        while not self.run.done:
            engine.round([self.run])
            engine.audit()
        assert all_back(engine.core)

    def take(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            assert event.text, "nothing is told of nothing"
            step = self.engine.stats().steps
            self.told.setdefault(event.sample, []).append((step, event.text))

    def text(self, sample: int) -> str:
        return "".join(text for _, text in self.told.get(sample, []))

    @property
    def early(self) -> bool:
        """Whether something was told before the last step."""
        return bool(self.told) and self.told[0][0][0] < self.engine.stats().steps

    @property
    def done(self) -> Finished:
        return self.run.result()


def random_fields(rng: random.Random, engine: Engine) -> dict[str, Any]:
    allowed = encoded(engine, "abc é€🙂")  # all their bytes: characters come in pieces, or broken
    beams = rng.randint(2, 6)
    fields: dict[str, Any] = {
        "beams": beams,
        "n": rng.choice([1, 1, 2, beams]),
        "max_tokens": rng.randint(1, 16),
        "length_penalty": rng.choice([-1.0, 0.0, 0.7, 2.0]),
        "early_stopping": rng.choice([True, False, "never"]),
        "ignore_eos": rng.random() < 0.3,
    }
    ends = [("stop", ["ab", "bca", "é"]), ("stop_regex", "c+a|€"), ("stop_tokens", [allowed[0]])]
    fields |= dict(rng.sample(ends, rng.randint(0, 2)))
    if rng.random() < 0.3:
        return fields | {"regex": "([a-c]|[é🙂])+ ?[a-z]*"}
    return fields | {"allowed_tokens": [*sorted({*allowed}), TOY_EOS]}


@pytest.mark.parametrize("seed", range(60))
def test_what_is_told_adds_up_to_the_text(toy_engine: ToyEngine, seed: int) -> None:
    rng = random.Random(seed)
    engine = toy_engine(block_size=4)
    fields = random_fields(rng, engine)
    text = "".join(rng.choices("xyz", k=5))
    heard = Listened(engine, search, text=text, fields=fields)
    if heard.run.error is not None:
        assert "cut the text" in str(heard.run.error)
        return
    texts: Any = heard.done.info("x").text
    texts = [texts] if isinstance(texts, str) else texts
    assert [heard.text(sample) for sample in range(len(texts))] == texts
    assert heard.told.keys() <= set(range(len(texts)))
    assert heard.done["x"] == toy_engine().run(search, text=text, fields=fields)["x"]


def test_so_it_does_where_hypotheses_go_on_as_branches(toy_engine: ToyEngine) -> None:
    for seed in range(12):
        rng = random.Random(seed)
        engine = toy_engine(block_size=4)
        fields = random_fields(rng, engine) | {"n": 1}
        heard = Listened(engine, branching, text="xyz", fields=fields)
        if heard.run.error is None:
            texts = heard.done.value
            found = len(heard.told)
            assert [heard.text(at) for at in range(found)] == [t for t in texts[:found] if t]


def test_it_is_told_while_the_search_runs(toy_engine: ToyEngine) -> None:
    early = 0
    for seed in range(20):
        engine = toy_engine(block_size=4)
        fields = {"beams": 4, "max_tokens": 24, "ignore_eos": True}
        heard = Listened(engine, search, text=f"{seed}", fields=fields)
        early += heard.early
        assert len(heard.told) == 1
    assert early > 15


def test_nobody_pays_for_it_who_does_not_listen(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = 0
    push = TextStream.push

    def counted(self: TextStream, token: int) -> str:
        nonlocal pushed
        pushed += 1
        return push(self, token)

    monkeypatch.setattr(TextStream, "push", counted)
    fields = {"beams": 3, "max_tokens": 8, "ignore_eos": True}
    toy_engine().run(search, text="abc", fields=fields)
    alone = pushed
    assert alone <= 3 * 8, "each hypothesis is read once"
    Listened(toy_engine(), search, text="abc", fields=fields)
    assert pushed == 2 * alone + 8
