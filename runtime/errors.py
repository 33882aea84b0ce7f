"""Everything that can go wrong while a program runs, as one tree.

RametError                      (ramet.errors)
└── EngineError
    ├── ModelError              unknown model, architecture or dtype; unreadable weights
    ├── RequestError            the request itself is wrong; nothing was computed
    │   ├── PromptError         text that cannot be encoded, or nothing to start from
    │   ├── ContextLengthError  longer than the model's context
    │   ├── CapacityError       would never fit the block pool, however long it waited
    │   └── GrammarError        a pattern, schema or grammar that cannot be obeyed
    ├── GenerationError         this request failed while running
    │   ├── SamplingError       no token can be drawn (NaN or infinite logits, all masked)
    │   │   └── RuledOut        none is left by what the request itself asks for
    │   ├── ConstraintError     no token obeys its grammar, or finding one is too complex
    │   ├── InvalidValue        a whole text has no value, or its class refuses it
    │   ├── StepError           the forward pass of its step raised
    │   └── Aborted             it was cancelled
    └── EngineClosed            the engine was shut down
"""

from ramet.errors import RametError, shown


class EngineError(RametError):
    """Base of what the runtime raises."""


class ModelError(EngineError):
    """A model that cannot be found, read or run."""


class RequestError(EngineError):
    """The request is wrong; it was refused before anything was computed."""


class PromptError(RequestError):
    """A prompt that cannot be turned into tokens, or an empty one."""


class ContextLengthError(RequestError):
    """The prompt leaves no room in the model's context."""

    def __init__(self, prompt: int, context: int) -> None:
        left = " and one must be left to generate" if prompt == context else ""
        super().__init__(
            f"the prompt has {prompt} tokens, but the model's context holds {context}{left}; "
            "shorten the prompt"
        )
        self.prompt = prompt
        self.context = context


class CapacityError(RequestError):
    """The request needs more blocks than the whole pool has."""

    def __init__(self, tokens: int, needed: int, blocks: int, beams: int = 1) -> None:
        many = f"{beams} beams of " if beams > 1 else ""
        fewer = "lower beams or max_tokens" if beams > 1 else "lower max_tokens"
        super().__init__(
            f"{many}{tokens} tokens (prompt plus max_tokens) need {needed} blocks, but the pool "
            f"has {blocks}; {fewer}, shorten the prompt or give the engine more blocks"
        )
        self.tokens = tokens
        self.needed = needed
        self.blocks = blocks
        self.beams = beams


class GrammarError(RequestError):
    """A pattern, schema or grammar that is wrong, too complex, or allows nothing."""

    def __init__(self, kind: str, source: str, reason: str) -> None:
        super().__init__(f"{kind} {reason}")
        self.kind = kind
        self.source = source
        self.reason = reason


class GenerationError(EngineError):
    """A request that was running and cannot go on; the others are not touched."""


class SamplingError(GenerationError):
    """No token can be drawn from these logits."""


class RuledOut(SamplingError):
    """The request's own settings leave no token to draw."""


class ConstraintError(GenerationError):
    """A text that cannot go on within its grammar."""

    def __init__(self, grammar: str, tokens: int, reason: str) -> None:
        super().__init__(f"{grammar}: after {tokens} tokens the text cannot go on: {reason}")
        self.grammar = grammar
        self.tokens = tokens
        self.reason = reason


class InvalidValue(GenerationError):
    """A whole text that has no value: a number that is too large, or what a class refuses.

    `name` is the variable, `text` what the model wrote, `reason` what is wrong with it.
    """

    def __init__(self, name: str, text: str, reason: str) -> None:
        super().__init__(f"gen {name}: {shown(text)} has no value: {reason}")
        self.name = name
        self.text = text
        self.reason = reason


class StepError(GenerationError):
    """The forward pass raised; everything it had reserved was given back."""


class Aborted(GenerationError):
    """The request was cancelled."""


class EngineClosed(EngineError):
    """The engine is shut down and takes no more work."""
