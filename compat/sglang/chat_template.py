"""Chat templates as a prefix and a suffix for each role, by name and by model path.

The strings are the formats of the models' own cards and tokenizers, under the names that SGLang
gives them (`sglang/lang/chat_template.py`). Knows no tokenizer.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from ramet.errors import near_miss

__all__ = [
    "ChatTemplate",
    "ChatTemplateStyle",
    "chat_template_registry",
    "get_chat_template",
    "get_chat_template_by_model_path",
    "register_chat_template",
    "register_chat_template_matching_function",
]

Messages = Sequence[Mapping[str, Any]]


class ChatTemplateStyle(Enum):
    PLAIN = auto()
    LLAMA2 = auto()  # the system message lies inside of the first user turn


@dataclass
class ChatTemplate:
    """What is written around the content of a message."""

    name: str
    default_system_prompt: str | None
    role_prefix_and_suffix: Mapping[str, tuple[str, str]]
    stop_str: Sequence[str] = ()  # ends every generation
    image_token: str = "<image>"
    audio_token: str = "<audio>"
    style: ChatTemplateStyle = ChatTemplateStyle.PLAIN

    def get_prefix_and_suffix(self, role: str, hist_messages: Messages) -> tuple[str, str]:
        """What goes before and after a message with this role that follows these messages."""
        prefix, suffix = self.role_prefix_and_suffix.get(role, ("", ""))
        if self.style is ChatTemplateStyle.LLAMA2:
            if role == "system" and not hist_messages:
                return self.role_prefix_and_suffix["user"][0] + prefix, suffix
            if role == "user" and [m["role"] for m in hist_messages] == ["system"]:
                return "", suffix
        return prefix, suffix

    def get_prompt(self, messages: Messages) -> str:
        """The text of these messages; a system message without content gets the default one."""
        text = ""
        for at, message in enumerate(messages):
            role, content = message["role"], message["content"]
            if role == "system" and content is None:
                content = self.default_system_prompt
            if content is None:
                continue
            prefix, suffix = self.get_prefix_and_suffix(role, messages[:at])
            text += f"{prefix}{content}{suffix}"
        return text


Matcher = Callable[[str], ChatTemplate | None]

chat_template_registry: dict[str, ChatTemplate] = {}
_matchers: list[Matcher] = []


def register_chat_template(template: ChatTemplate) -> None:
    chat_template_registry[template.name] = template


def register_chat_template_matching_function(function: Matcher) -> Matcher:
    """A function from a model's path to its template, or None; asked before those of here."""
    _matchers.append(function)
    return function


def get_chat_template(name: str) -> ChatTemplate:
    """The template of that name; raises `KeyError`."""
    if name not in chat_template_registry:
        hint = near_miss(name, chat_template_registry)
        raise KeyError(f"unknown chat template {name!r}{hint}")
    return chat_template_registry[name]


def get_chat_template_by_model_path(model_path: str) -> ChatTemplate:
    """The first that answers to the path; else the default, plain lines."""
    for matcher in _matchers:
        if (template := matcher(model_path)) is not None:
            return template
    path = model_path.lower()
    for pattern, name in _BY_PATH:
        if re.search(pattern, path):
            return get_chat_template(name)
    return get_chat_template("default")


@dataclass(frozen=True)
class _Spec:
    """A template by the strings before and after each role."""

    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    stop: tuple[str, ...] = ()
    says: str | None = None
    image: str = "<image>"
    more: dict[str, Any] = field(default_factory=dict)


def _same(begin: str, end: str, assistant: str = "assistant", **more: Any) -> _Spec:
    """Every role between the same marks."""
    system, user, spoken = (begin.format(role) for role in ("system", "user", assistant))
    return _Spec((system, end), (user, end), (spoken, end), **more)


_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
_HELPFUL = "You are a helpful assistant."
_CHATML = ("<|im_start|>{}\n", "<|im_end|>\n")
_LLAMA3 = ("<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>")
_IM_END = ("<|im_end|>",)
_DEEPSEEK_END = "<\uff5cend\u2581of\u2581sentence\uff5c>"
_DEEPSEEK = (("<\uff5cUser\uff5c>", ""), ("<\uff5cAssistant\uff5c>", _DEEPSEEK_END))
_MINICPM = (("", " "), ("user:", " "), ("assistant:", "</s>"))
_COHERE = "<|START_OF_TURN_TOKEN|><|{}_TOKEN|>"

_SPECS = {
    "default": _Spec(("SYSTEM:", "\n"), ("USER:", "\n"), ("ASSISTANT:", "\n")),
    "claude": _Spec(("", ""), ("\n\nHuman: ", ""), ("\n\nAssistant:", "")),
    "chatml": _same(*_CHATML, stop=_IM_END),
    "chatml-llava": _same(*_CHATML, stop=_IM_END, says=_HELPFUL, image="<image>\n"),
    "qwen": _same(*_CHATML, stop=_IM_END, says=_HELPFUL),
    "qwen2-vl": _same(
        *_CHATML,
        stop=_IM_END,
        says=_HELPFUL,
        image="<|vision_start|><|image_pad|><|vision_end|>",
    ),
    "internvl-2-5": _same(*_CHATML, stop=(*_IM_END, "<|action_end|>")),
    "interns1": _same(*_CHATML, stop=(*_IM_END, "<|action_end|>")),
    "vicuna_v1.1": _Spec(
        ("", " "), ("USER:", " "), ("ASSISTANT:", "</s>"), says=_VICUNA, image=" <image>\n"
    ),
    "llama-2-chat": _Spec(
        ("<<SYS>>\n", "\n<</SYS>>\n\n"),
        ("[INST] ", " [/INST]"),
        ("", " </s><s>"),
        more={"style": ChatTemplateStyle.LLAMA2},
    ),
    "mistral": _Spec(
        ("[SYSTEM_PROMPT] ", " [/SYSTEM_PROMPT]"),
        ("[INST] ", " [/INST]"),
        ("", " </s><s>"),
        stop=("</s>",),
        image="[IMG]",
    ),
    "llama-3-instruct": _same(*_LLAMA3, stop=("<|eot_id|>",), image="<|image|>"),
    "llama-3-instruct-llava": _same(*_LLAMA3, stop=("<|eot_id|>",), image="<image>\n"),
    "llama-4": _same(
        "<|header_start|>{}<|header_end|>\n\n", "<|eot|>", stop=("<|eot|>",), image="<|image|>"
    ),
    "minicpmv": _Spec(*_MINICPM, stop=(*_IM_END, "<|endoftext|>"), image="(<image>./</image>)"),
    "minicpmo": _Spec(
        *_MINICPM,
        stop=(*_IM_END, "<|endoftext|>"),
        image="(<image>./</image>)",
        more={"audio_token": "(<audio>./</audio>)"},
    ),
    "janus-pro": _Spec(("", ""), *_DEEPSEEK, stop=(_DEEPSEEK_END,), image="<image_placeholder>\n"),
    "janus": _Spec(("", ""), *_DEEPSEEK, stop=(_DEEPSEEK_END,), image="<image_placeholder>\n"),
    "deepseek-v3": _Spec(("", ""), *_DEEPSEEK, stop=(_DEEPSEEK_END,)),
    "yi-1.5": _Spec(
        ("", ""),
        ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
        ("", "<|im_end|>\n"),
        stop=_IM_END,
    ),
    "yi-vl": _Spec(
        ("", "\n\n"),
        ("### Human:", "\n"),
        ("### Assistant:", "\n"),
        image=" <image_placeholder>\n",
    ),
    "gemma-it": _Spec(
        ("", ""),
        ("<start_of_turn>user\n", "<end_of_turn>\n"),
        ("<start_of_turn>model\n", "<end_of_turn>\n"),
        image="<start_of_image>",
        more={"audio_token": "<start_of_audio>"},
    ),
    "gemma-4-it": _Spec(
        ("", ""), ("<|turn>user\n", "<turn|>\n"), ("<|turn>assistant\n", "<turn|>\n")
    ),
    "dbrx-instruct": _Spec(
        ("<|im_start|>system\n", "<|im_end|>"),
        ("\n<|im_start|>user\n", "<|im_end|>"),
        ("\n<|im_start|>assistant\n", "<|im_end|>"),
        stop=_IM_END,
    ),
    "c4ai-command-r": _Spec(
        (_COHERE.format("SYSTEM"), "<|END_OF_TURN_TOKEN|>"),
        (_COHERE.format("USER"), "<|END_OF_TURN_TOKEN|>"),
        (_COHERE.format("CHATBOT"), "<|END_OF_TURN_TOKEN|>"),
    ),
    "granite-3-instruct": _same(
        "<|start_of_role|>{}<|end_of_role|>", "<|end_of_text|>", stop=("<|end_of_text|>",)
    ),
    "glm-4v": _same("<|{}|>\n", "\n", stop=("<|user|>", "<|endoftext|>", "<|observation|>")),
}

_BY_PATH = (
    (r"deepseek-(v3|r1)(?!.*base)", "deepseek-v3"),
    (r"janus", "janus-pro"),
    (r"dbrx.*instruct", "dbrx-instruct"),
    (r"vicuna|llava-v1\.5|llava-next-video-7b", "vicuna_v1.1"),
    (r"llama-2.*chat|mistral.*instruct|mixtral.*instruct|codellama.*instruct", "llama-2-chat"),
    (r"llama-3.*instruct", "llama-3-instruct"),
    (r"llama-4.*instruct", "llama-4"),
    (r"tinyllama", "chatml"),
    (r"qwen.*vl", "qwen2-vl"),
    (r"llava-v1\.6-(yi-)?34b|llava-next-video-34b|llava-onevision-qwen2", "chatml-llava"),
    (r"qwen(?!.*llava).*(chat|instruct)", "qwen"),
    (r"yi-vl(?!.*llava)", "yi-vl"),
    (r"yi-1\.5.*chat", "yi-1.5"),
    (r"gemma-4.*it", "gemma-4-it"),
    (r"gemma.*it", "gemma-it"),
    (r"minicpm-v", "minicpmv"),
    (r"minicpm-o", "minicpmo"),
    (r"c4ai-command-r", "c4ai-command-r"),
    (r"granite.*instruct", "granite-3-instruct"),
    (r"internvl2_5", "internvl-2-5"),
    (r"intern-?s1", "interns1"),
    (r"glm.*4.*v", "glm-4v"),
    (r"smollm2.*instruct", "chatml"),
)

for _name, _spec in _SPECS.items():
    register_chat_template(
        ChatTemplate(
            name=_name,
            default_system_prompt=_spec.says,
            role_prefix_and_suffix={
                "system": _spec.system,
                "user": _spec.user,
                "assistant": _spec.assistant,
            },
            stop_str=_spec.stop,
            image_token=_spec.image,
            **_spec.more,
        )
    )
