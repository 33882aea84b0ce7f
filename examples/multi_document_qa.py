"""Reads every document on its own, side by side, and answers from the notes."""

import ramet
from ramet.runtime import Engine

DOCUMENTS = [
    "The lighthouse was built in 1868 by a fisherman.",
    "Its lamp can be seen from thirty kilometres away.",
    "It was closed in 1990, and is a museum today.",
]


@ramet.program
def note(s: ramet.State, document: str, question: str):
    s += ramet.user(
        f"Document: {document}\n\nWhat does it say about this question: {question}",
    )
    s += ramet.assistant(ramet.gen("found", max_tokens=32, stop="\n"))
    return s["found"]


@ramet.program
def multi_document_qa(s: ramet.State, question: str, documents: list):
    notes = [note.call(s, document, question) for document in documents]
    s += ramet.user("Notes:\n" + ramet.join(notes, "\n") + f"\n\n{question}")
    s += ramet.assistant(ramet.gen("answer", max_tokens=48, stop="\n"))
    return {"answer": s["answer"], "notes": notes}


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        question = "When was the lighthouse built?"
        print(engine.run(multi_document_qa, question=question, documents=DOCUMENTS).value)
