"""A model's own chat template, as the prefixes and suffixes that a state writes."""

from ramet.compat.sglang.chat_template import ChatTemplate, Messages
from ramet.runtime.chat import ChatFormat
from ramet.runtime.errors import PromptError


class ModelChatTemplate(ChatTemplate):
    """Asks the tokenizer's template for each gap between messages.

    A default system prompt is part of the first gap. No stop string is needed: the model's own
    end of a turn ends a generation.
    """

    def __init__(self, name: str, format: ChatFormat) -> None:
        super().__init__(name, None, {})
        self._format = format

    def get_prefix_and_suffix(self, role: str, hist_messages: Messages) -> tuple[str, str]:
        """Raises `PromptError` when the template takes no message with this role here."""
        done = tuple(message["role"] for message in hist_messages)
        written = self._format.after(done) if done else ""
        before = self._format.before(done, role)
        if not before.startswith(written):
            raise PromptError(
                f"the chat template cannot be written message by message: before role {role!r} "
                f"it would take back {written!r}"
            )
        return before.removeprefix(written), self._format.after((*done, role))
