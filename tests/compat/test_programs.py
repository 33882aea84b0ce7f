"""Programs of the kinds that people wrote for SGLang's frontend, on a scripted backend."""

import math
from collections import Counter
from typing import Any

import ramet.compat.sglang as sgl
from ramet.compat.sglang.lang.ir import REGEX_INT, REGEX_STR
from tests.compat.conftest import Scripted


def test_a_tool_is_chosen_and_used() -> None:
    @sgl.function
    def use_tool(s: Any, question: str) -> None:
        s += "To answer this: " + question + ". "
        s += "I need a " + sgl.gen("tool", choices=["calculator", "web"]) + ". "
        if s["tool"] == "calculator":
            s += "The expression is" + sgl.gen("expression", stop="\n")
        else:
            s += "The query is" + sgl.gen("query", stop="\n")

    state = use_tool.run(question="2 + 2", backend=Scripted(" 2 + 2"))
    assert state.text() == ("To answer this: 2 + 2. I need a calculator. The expression is 2 + 2")
    assert "query" not in state


def test_a_conversation_of_several_turns() -> None:
    @sgl.function
    def talk(s: Any, questions: list[str]) -> None:
        s += sgl.system("You answer with a number.")
        for i, question in enumerate(questions):
            s += sgl.user(question)
            s += sgl.assistant(sgl.gen(f"answer_{i}", max_tokens=8, regex=REGEX_INT))

    backend = Scripted(lambda text: str(text.count("USER:")), template="chatml")
    backend.answer = lambda text: str(text.count("<|im_start|>user"))
    state = talk.run(questions=["a", "b", "c"], backend=backend)
    assert [state[f"answer_{i}"] for i in range(3)] == ["1", "2", "3"]
    assert [m["content"] for m in state.messages()][1::2] == ["a", "b", "c"]
    assert {params.regex for params in backend.params} == {REGEX_INT}


def test_an_article_is_judged_in_several_dimensions() -> None:
    dimensions = ["clarity", "depth", "style"]

    @sgl.function
    def judge(s: Any, article: str) -> None:
        s += "Judge this article.\n" + article + "\n"
        forks = s.fork(len(dimensions))
        for f, dimension in zip(forks, dimensions, strict=True):
            f += dimension + ": " + sgl.gen("judgment", stop="\n") + "\n"
        forks.join("concate_and_append")
        s += "Grade: " + sgl.select("grade", ["A", "B+"])

    state = judge.run(article="Once.", backend=Scripted("fine"))
    assert state.text() == (
        "Judge this article.\nOnce.\nclarity: fine\ndepth: fine\nstyle: fine\nGrade: B+"
    )


def test_a_majority_of_answers() -> None:
    answers = iter(["4", "5", "4"])

    @sgl.function
    def vote(s: Any, question: str) -> None:
        s += sgl.user(question)
        forks = s.fork(3)
        for f in forks:
            f += sgl.assistant(sgl.gen("answer", temperature=0.3))
            f.sync()  # one after the other, so that the script is followed
        forks.join()

    state = vote.run(question="2 + 2?", backend=Scripted(lambda text: next(answers)))
    assert Counter(state["answer"]).most_common(1) == [("4", 2)]


def test_a_tree_of_thoughts() -> None:
    def propose(s: Any, count: int) -> Any:
        s += sgl.user("Propose a plan.")
        forks = s.fork(count)
        forks += sgl.assistant(sgl.gen("plan", max_tokens=16))
        return forks

    def solve(s: Any, count: int) -> Any:
        s += sgl.user("Carry it out.")
        forks = s.fork(count)
        forks += sgl.assistant(sgl.gen("answer", max_tokens=16))
        return forks

    @sgl.function
    def tree(s: Any, question: str, width: int) -> list[str]:
        s += sgl.user(question)
        plans = propose(s, width)
        leaves: list[Any] = []
        for plan in plans:
            answers = solve(plan, width)
            leaves.extend(answers)
            answers.join()
        plans.join()
        return [leaf.text() for leaf in leaves]

    backend = Scripted(lambda text: f"<{len(text)}>")
    state = tree.run(question="Why?", width=2, backend=backend)
    assert [len(answers) for answers in state["answer"]] == [2, 2]
    assert len(state["plan"]) == 2
    assert len(state.ret_value) == 4
    assert all(text.startswith("USER:Why?\nUSER:Propose") for text in state.ret_value)


def test_decoding_that_looks_at_what_else_was_likely() -> None:
    class Likely(Scripted):
        def generate(self, s: Any, sampling_params: Any) -> tuple[Any, Any]:
            top = [[-0.1, 1, " one"], [-2.0, 2, " two"]]
            if sampling_params.max_new_tokens == 0:
                return "", {"output_top_logprobs": [top]}
            return "!", {"output_top_logprobs": [top, top]}

    @sgl.function
    def decode(s: Any, question: str, k: int) -> list[float]:
        s += question
        first = s.fork(1)[0]
        forks = s.fork(k)
        first += sgl.gen("top", max_tokens=0, return_logprob=True, top_logprobs_num=k)
        margins = []
        for f, (_, _, text) in zip(
            forks, first.get_meta_info("top")["output_top_logprobs"][0], strict=True
        ):
            f += text + sgl.gen("rest", temperature=0, return_logprob=True, top_logprobs_num=2)
            tops = f.get_meta_info("rest")["output_top_logprobs"]
            margins.append(sum(math.exp(a[0]) - math.exp(b[0]) for a, b in tops) / len(tops))
        assert [repr(f) for f in forks] == ["ProgramState(Q one!)", "ProgramState(Q two!)"]
        return margins

    margins = decode.run(question="Q", k=2, backend=Likely()).ret_value
    assert margins == [math.exp(-0.1) - math.exp(-2.0)] * 2


def test_json_written_field_by_field() -> None:
    @sgl.function
    def character(s: Any, name: str) -> None:
        s += name + " is a character.\n"
        with s.var_scope("json"):
            s += '{\n  "name": ' + sgl.gen("name", regex=REGEX_STR + ",") + "\n"
            s += '  "age": ' + sgl.gen("age", regex=REGEX_INT + ",") + "\n}"

    backend = Scripted(lambda text: '"Ann",' if text.endswith('"name": ') else "11,")
    states = character.run_batch([{"name": "Ann"}, {"name": "Bob"}], backend=backend)
    assert states[0]["json"] == '{\n  "name": "Ann",\n  "age": 11,\n}'
