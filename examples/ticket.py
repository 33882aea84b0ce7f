"""Sorts a support ticket: a record with its fields, and the queue it goes to."""

import ramet
from ramet.runtime import Engine

RECORD = {
    "type": "object",
    "properties": {
        "product": {"enum": ["kettle", "lamp", "toaster"]},
        "severity": {"type": "integer", "minimum": 1, "maximum": 5},
        "refund": {"type": "boolean"},
    },
    "required": ["product", "severity", "refund"],
    "additionalProperties": False,
}


@ramet.program
def ticket(s: ramet.State, message: str, queues: list):
    s += f"Ticket: {message}\nRecord: "
    s += ramet.gen("record", json_schema=RECORD, max_tokens=64)
    s += "\nQueue: " + ramet.gen("queue", choices=queues)
    urgent = s["record"]["severity"] >= 4
    return {"record": s["record"], "queue": s["queue"], "urgent": urgent}


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        message = "The kettle I bought yesterday leaks. I want my money back!"
        queues = ["billing", "repairs", "sales"]
        print(engine.run(ticket, message=message, queues=queues).value)
