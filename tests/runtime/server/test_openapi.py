"""Random requests by the OpenAPI document, right ones, wrong ones and nearly right ones: no answer
is 5xx, each is what the document says, and nothing is left behind."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ramet.runtime import Engine, EngineConfig
from ramet.runtime.server.config import program_limits
from ramet.runtime.server.middleware import OPEN
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyModel
from tests.runtime.server.live import Live, live
from tests.runtime.server.test_document import CHAT, EVERYTHING, SHORT

HURRY = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
KEY = "a-key"
AUTH = {"Authorization": f"Bearer {KEY}"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

# -- requests that are right, in the terms of what they are about

SOURCE = st.sampled_from(
    [SHORT, EVERYTHING, SHORT.replace("max_tokens=n", 'max_tokens=n, stop="a"')]
)
BOOL = st.booleans()
SEED = st.integers(0, 9)
TEXT = st.sampled_from(["Hi", "Tips for Bo.0", "x" * 40, "né"])
RUN = {"seed": SEED, "stream": BOOL, "background": BOOL, "batch": st.just([{}, {"n": 1}])}
SAMPLING = {
    "n": st.integers(1, 3), "temperature": st.floats(0, 2), "top_p": st.floats(0.1, 1),
    "stop": st.sampled_from(["a", ["a", "b"]]), "seed": SEED, "stream": BOOL,
    "regex": st.sampled_from(["[a-f]{3}", "b+"]), "allowed_token_ids": st.just([1, 2, 3]),
    "beams": st.integers(1, 3),
}  # fmt: skip
SGLANG = {
    "stream": BOOL, "return_logprob": BOOL, "top_logprobs_num": st.integers(0, 3),
    "logprob_start_len": st.integers(-1, 3), "return_text_in_logprobs": BOOL,
}  # fmt: skip
FEW = st.integers(1, 5)


def body(needed: dict[str, Any], optional: dict[str, Any] | None = None) -> Any:
    return st.fixed_dictionaries(needed, optional=optional or {})


PREFIX = st.one_of(body({"prompt": TEXT}), body({"messages": st.just(CHAT)}))
RIGHT: dict[str, Any] = {
    "/v1/programs": body({"source": SOURCE}, RUN),
    "/v1/programs/check": body({"source": SOURCE}),
    "/v1/programs/plan": body({"source": SOURCE}),
    "/v1/library/{name}": body({"source": SOURCE}),
    "/v1/library/{name}/runs": body({}, RUN),
    "/v1/cache/explain": PREFIX,
    "/v1/cache/forget": PREFIX,
    "/v1/cache/pins": body({"prompt": TEXT, "seconds": st.floats(0.1, 5)}),
    "/v1/completions": body(
        {"model": st.just("toy"), "prompt": TEXT, "max_tokens": FEW},
        SAMPLING | {"echo": BOOL, "logprobs": st.integers(0, 3)},
    ),
    "/v1/chat/completions": body(
        {"model": st.just("toy"), "messages": st.just(CHAT), "max_tokens": FEW},
        SAMPLING | {"logprobs": BOOL},
    ),
    "/tokenize": PREFIX,
    "/detokenize": body({"tokens": st.lists(st.integers(0, 256), max_size=5)}),
    "/generate": body(
        {"text": TEXT, "sampling_params": body({"max_new_tokens": FEW, "n": st.integers(1, 2)})},
        SGLANG,
    ),
}
NAMES = st.sampled_from(["a", "b"])


@dataclass
class Known:
    """The ids that answers had, the newest last."""

    ids: list[str] = field(default_factory=list)

    def learn(self, told: Any) -> None:
        if isinstance(told, dict) and str(told.get("id", "")).startswith(("prog_", "pin_")):
            self.ids = [*self.ids[-7:], told["id"]]


@st.composite
def cases(draw: Any, operations: list[Any], known: Known) -> Any:
    """A request of any operation, by its schema or against it, or a right one of which one field is
    by its schema only."""
    operation = draw(st.sampled_from(operations))
    kind = draw(st.sampled_from(["right", "wrong", "nearly", "nearly"]))
    mode = GenerationMode.NEGATIVE if kind == "wrong" else GenerationMode.POSITIVE
    case = draw(operation.as_strategy(generation_mode=mode))
    if kind == "nearly":
        right = RIGHT.get(operation.path)
        if right is not None and isinstance(case.body, dict):
            given = draw(right)
            others = sorted(case.body.keys() - given.keys())
            if others and draw(st.integers(0, 3)) == 0:
                name = draw(st.sampled_from(others))
                given = {**given, name: case.body[name]}
            case.body = given
        if "name" in case.path_parameters:
            case.path_parameters["name"] = draw(NAMES)
        if "id" in case.path_parameters and "models" not in operation.path:
            at = draw(st.integers(1, 4))
            if at <= len(known.ids):
                case.path_parameters["id"] = known.ids[-at]
    return case


@dataclass
class Asked:
    """A server, the operations of its document, and what its answers were."""

    server: Live
    operations: list[Any]
    known: Known = field(default_factory=Known)
    statuses: Counter[int] = field(default_factory=Counter)
    session: requests.Session = field(default_factory=requests.Session)

    def ask(self, case: Any) -> None:
        """Send it, and hold the answer against the document; sometimes without a key, too."""
        answer = case.call(base_url=self.server.url, session=self.session, headers=AUTH)
        case.validate_response(answer, checks=CHECKS)
        self.statuses[answer.status_code] += 1
        if answer.headers.get("content-type", [""])[0].startswith("application/json"):
            self.known.learn(answer.json())
        assert self.server.all_back(within=5.0), "also what runs in the background ends"
        if self.statuses.total() % 7 == 0 and case.path not in OPEN:
            refused = case.call(base_url=self.server.url, session=self.session)
            assert refused.status_code == 401
            case.validate_response(refused, checks=CHECKS)

    def ask_for(self, count: int, at: int) -> None:
        """So many random cases; `at` is their seed."""

        @seed(at)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=HURRY,
        )
        @given(case=cases(self.operations, self.known))
        def ask(case: Any) -> None:
            self.ask(case)

        ask()

    def forget(self) -> None:
        """What the interface says stays, and nothing else is there."""
        http, headers = self.server.http, AUTH
        for id in self.known.ids:
            where = "cache/pins" if id.startswith("pin_") else "programs"
            assert http.delete(f"/v1/{where}/{id}", headers=headers).status_code in (200, 404)
        for stored in http.get("/v1/library", headers=headers).json()["data"]:
            http.delete(f"/v1/library/{stored['name']}", headers=headers)
        told = http.get("/metrics", headers=headers).text
        assert "ramet_num_runs_waiting 0.0" in told
        assert "ramet_num_runs_running 0.0" in told


@pytest.fixture
def asked(byte_tokenizer: Tokenizer) -> Iterator[Asked]:
    engine = Engine.of(ToyModel(256), byte_tokenizer, EngineConfig(num_blocks=256))
    limits = replace(program_limits(), tokens=64, seconds=2.0)
    with live(engine, token=KEY, model="toy", keys={KEY: "me"}, program=limits) as server:
        document = server.http.get("/openapi.json", headers=AUTH).json()
        found = schemathesis.openapi.from_dict(document).get_all_operations()
        operations: list[Any] = [each.ok() for each in found if isinstance(each, Ok)]
        assert len(operations) == sum(map(len, document["paths"].values()))
        # Those with a body three times: there is more to get wrong.
        asked = Asked(server, [op for op in operations for _ in range(3 if op.body else 1)])
        yield asked
        asked.forget()


def test_random_requests(asked: Asked) -> None:
    asked.ask_for(200, at=1)
    assert asked.statuses[200] > 50
    assert asked.statuses[400] > 20


@pytest.mark.slow
def test_twenty_thousand_random_requests(asked: Asked) -> None:
    for at in range(40):
        asked.ask_for(500, at)
    print(asked.statuses)
    assert asked.statuses.total() >= 20_000
