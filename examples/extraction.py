"""Reads a booking out of a message, as an instance of a class."""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, Field

import ramet
from ramet.runtime import Engine


class Guest(BaseModel):
    name: Annotated[str, Field(max_length=24)]
    child: bool


class Booking(BaseModel):
    room: Literal["single", "double", "suite"]
    arrival: date
    nights: Annotated[int, Field(ge=1, le=30)]
    guests: Annotated[list[Guest], Field(min_length=1, max_length=3)]


@ramet.program
def extraction(s: ramet.State, message: str):
    s += ramet.system("You read bookings out of messages, as JSON.")
    s += ramet.user(f"{message}\nKeys: room, arrival, nights, guests with name and child.")
    s += ramet.assistant(ramet.gen("booking", type=Booking, max_tokens=160))
    s += ramet.user("Is the booking complete?")
    s += ramet.assistant(ramet.gen("complete", choices=["yes", "no"]))
    booking = s["booking"].look()  # a Booking, with all that it can do
    beds = sum(1 for guest in booking.guests if not guest.child)
    return {"booking": booking, "beds": beds, "complete": s["complete"]}


MESSAGE = "We are Ada and Max Byron and would like a double room for three nights from 2026-05-04."

if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(extraction, message=MESSAGE).value)
