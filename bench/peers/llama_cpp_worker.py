"""llama.cpp behind a pipe, in an environment of its own: on its batches, as its server runs them.

    python llama_cpp_worker.py MODEL.gguf THREADS

A round is decoded as one batch of sequences. What a context has in common with an earlier one is
taken from its cache (`seq_cp`), so shared tokens are computed once. Where contexts share much, the
cache is one for all of them (`kv_unified`), else one for each, as its own notes advise. JSON goes
through `create_completion` with a grammar made from the schema, one text after the other.
There is no beam search in llama.cpp any more.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

import llama_cpp  # pyright: ignore[reportMissingImports]
import numpy as np
from llama_cpp import Llama, LlamaGrammar  # pyright: ignore[reportMissingImports]
from protocol import Draw, Ids, NotOffered, Work, by_rounds, requests, serve, shared

LEAST = 32  # tokens in common that are worth taking over
BATCH = 2048  # tokens decoded in one call


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of one sequence from a position on, and which of them need logits."""

    sequence: int
    start: int
    ids: Ids
    all_logits: bool = False


class Batches:
    """A context of llama.cpp with many sequences; sequence numbers count up."""

    def __init__(self, model: Llama, sequences: int, cells: int, unified: bool) -> None:
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch = cells, BATCH
        settings.n_seq_max, settings.kv_unified = sequences, unified
        settings.n_threads = settings.n_threads_batch = THREADS
        self._context = llama_cpp.llama_init_from_model(model.model, settings)
        assert self._context, "no context of that size"
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._vocabulary = model.n_vocab()
        self._held: list[Ids] = []  # tokens of each sequence

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)

    def read(self, contexts: list[Ids]) -> tuple[list[int], np.ndarray]:
        """Their sequences, and the logits behind the last token of each."""
        waves: dict[int, list[Part]] = {}
        takes: dict[int, tuple[int, int]] = {}
        wave: dict[int, int] = {}
        first = len(self._held)
        for ids in contexts:
            own = len(self._held)
            source, length = self._longest(ids)
            if length:
                takes[own] = (source, length)
                wave[own] = wave[source] + 1 if source >= first else 0
            else:
                wave[own] = 0
            waves.setdefault(wave[own], []).append(Part(own, length, ids[length:]))
            self._held.append(ids)
        logits: dict[int, np.ndarray] = {}
        for number in sorted(waves):
            for part in waves[number]:
                if part.sequence in takes:
                    source, length = takes[part.sequence]
                    self.copy(source, part.sequence, length)
            for part, found in zip(waves[number], self.decode(waves[number]), strict=True):
                logits[part.sequence] = found[-1]
        sequences = list(range(first, len(self._held)))
        return sequences, np.stack([logits[each] for each in sequences])

    def extend(self, sequences: list[int], tokens: Ids) -> np.ndarray:
        """One token more for each; the logits behind it."""
        parts = [
            Part(each, len(self._held[each]), [token])
            for each, token in zip(sequences, tokens, strict=True)
        ]
        for each, token in zip(sequences, tokens, strict=True):
            self._held[each] = [*self._held[each], token]
        return np.concatenate(self.decode(parts))

    def copy(self, source: int, target: int, length: int) -> None:
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def drop(self, sequence: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def decode(self, parts: list[Part]) -> list[np.ndarray]:
        """Logits `[tokens that need them, vocabulary]` of each part."""
        rows: list[list[np.ndarray]] = [[] for _ in parts]
        todo = [
            (
                number,
                part.sequence,
                part.start + at,
                token,
                part.all_logits or at == len(part.ids) - 1,
            )
            for number, part in enumerate(parts)
            for at, token in enumerate(part.ids)
        ]
        for begin in range(0, len(todo), BATCH):
            piece = todo[begin : begin + BATCH]
            batch = self._batch
            batch.n_tokens = len(piece)
            for at, (_, sequence, position, token, wanted) in enumerate(piece):
                batch.token[at], batch.pos[at] = token, position
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                batch.logits[at] = wanted
            status = llama_cpp.llama_decode(self._context, batch)
            assert status == 0, f"llama_decode: {status}"
            for at, (number, _, _, _, wanted) in enumerate(piece):
                if wanted:
                    pointer = llama_cpp.llama_get_logits_ith(self._context, at)
                    row = np.ctypeslib.as_array(pointer, (self._vocabulary,))
                    rows[number].append(row.copy())
        return [np.stack(each) for each in rows]

    def _longest(self, ids: Ids) -> tuple[int, int]:
        """The sequence that begins most like these, and how many tokens of it; the last is left."""
        best = (0, 0)
        for sequence, held in enumerate(self._held):
            length = _common(held, ids)
            best = max(best, (sequence, length), key=lambda each: each[1])
        return best if best[1] >= LEAST else (0, 0)


def _common(held: Ids, ids: Ids) -> int:
    """How many first tokens are the same; the last of `ids` is left to compute."""
    most = min(len(held), len(ids) - 1)
    differ = np.array(held[:most]) != np.array(ids[:most])
    return int(differ.argmax()) if differ.any() else most


def load() -> Callable[[Work], Callable[[], list[Ids]]]:
    llama = Llama(MODEL, n_ctx=2048, n_threads=THREADS, n_threads_batch=THREADS, verbose=False)
    opened: list[Batches] = []

    def prepare(work: Work) -> Callable[[], list[Ids]]:
        while opened:
            opened.pop().close()
        if work["kind"] == "beams":
            raise NotOffered("llama.cpp took beam search out in 2024")
        if work["kind"] == "steps":
            raise NotOffered("it scores options as in select")
        if work["kind"] == "json":
            llama.reset()
            llama._ctx.kv_cache_clear()
            return lambda: objects(llama, work)
        opened.append(batches := opened_for(llama, work))
        if work["kind"] == "score":
            return lambda: score(batches, work)
        return lambda: by_rounds(work, drawing(batches, work))

    return prepare


def opened_for(llama: Llama, work: Work) -> Batches:
    asked = requests(work)
    wide = work["width"] if work["kind"] == "sample" else 1
    most = max(map(len, (request["option_ids"] for request in asked)))
    sequences = len(asked) * wide + 1 + most
    own = max(len(request["ids"]) for request in asked) + work["tokens"] + 32
    first = [request["ids"] for request in work["rounds"][0]]
    if wide > 1 or len(work["rounds"]) > 1 or most or (len(first) > 1 and shared(first) > LEAST):
        cells = sum(len(r["ids"]) + wide * work["tokens"] + 64 for r in asked)
        return Batches(llama, sequences, min(cells, 1 << 15), unified=True)
    return Batches(llama, len(asked), -(-own // 256) * 256 * len(asked), unified=False)


def drawing(batches: Batches, work: Work) -> Draw:
    """Draws for the contexts of a round; samples are sequences beside each other."""
    random = np.random.default_rng(0)

    def pick(logits: np.ndarray) -> Ids:
        if work["kind"] != "sample":
            return logits.argmax(-1).tolist()
        scaled = (logits - logits.max(-1, keepdims=True)) / np.float32(0.8)
        sums = np.exp(scaled).cumsum(-1)
        drawn = random.random((len(logits), 1), np.float32) * sums[:, -1:]
        return (sums < drawn).sum(-1).tolist()

    def draw(contexts: list[Ids]) -> list[Ids]:
        wide = work["width"] if work["kind"] == "sample" else 1
        sequences, logits = batches.read([ids for ids in contexts for _ in range(wide)])
        found: list[Ids] = [pick(logits)]
        for _ in range(work["tokens"] - 1):
            found.append(pick(batches.extend(sequences, found[-1])))
        texts = [list(each) for each in zip(*found, strict=True)]
        groups = range(0, len(texts), wide)
        return [[t for text in texts[at : at + wide] for t in text] for at in groups]

    return draw


def score(batches: Batches, work: Work) -> list[Ids]:
    """The likeliest option of each request by mean log-probability; options of one are a batch."""
    asked = requests(work)
    sequences, last = batches.read([request["ids"] for request in asked])
    chosen: list[Ids] = []
    for sequence, logits, request in zip(sequences, last, asked, strict=True):
        options, start = request["option_ids"], len(request["ids"])
        beside = range(len(asked) + 1, len(asked) + 1 + len(options))
        for each in beside:
            batches.copy(sequence, each, start)
        parts = [
            Part(each, start, option[:-1], all_logits=True)
            for each, option in zip(beside, options, strict=True)
        ]
        means = []
        for option, found in zip(options, batches.decode(parts), strict=True):
            rows = np.concatenate([logits[None], found])
            top = rows.max(-1, keepdims=True)
            logprobs = rows - top - np.log(np.exp(rows - top).sum(-1, keepdims=True))
            means.append(float(np.mean([row[t] for row, t in zip(logprobs, option, strict=True)])))
        for each in beside:
            batches.drop(each)
        chosen.append([means.index(max(means))])
    return chosen


def objects(llama: Llama, work: Work) -> list[Ids]:
    grammar = LlamaGrammar.from_json_schema(json.dumps(work["schema"]), verbose=False)
    found: list[Ids] = []
    for request in requests(work):
        answer = llama.create_completion(
            request["ids"], max_tokens=work["tokens"], temperature=0.0, grammar=grammar
        )
        found.append(llama.tokenize(answer["choices"][0]["text"].encode(), add_bos=False))
    return found


if __name__ == "__main__":
    MODEL, THREADS = sys.argv[1], int(sys.argv[2])
    serve(load, ("llama-cpp-python", "numpy"))
