"""Named chat templates."""

import pytest

from ramet.compat.sglang.lang.chat_template import (
    ChatTemplate,
    chat_template_registry,
    get_chat_template,
    get_chat_template_by_model_path,
    register_chat_template,
)

NAMES = (
    "default claude chatml chatml-llava qwen qwen2-vl vicuna_v1.1 llama-2-chat mistral "
    "llama-3-instruct minicpmv janus-pro minicpmo janus llama-3-instruct-llava llama-4 yi-1.5 "
    "yi-vl gemma-it gemma-4-it dbrx-instruct c4ai-command-r internvl-2-5 interns1 "
    "granite-3-instruct deepseek-v3 glm-4v"
).split()


def test_all_the_names_are_there() -> None:
    assert set(NAMES) <= set(chat_template_registry)
    with pytest.raises(KeyError, match="did you mean 'qwen'"):
        get_chat_template("qwenn")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-chat"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "llama-2-chat"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-instruct"),
        ("meta-llama/Meta-Llama-3-8B", "default"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("Qwen/Qwen2-VL-7B-Instruct", "qwen2-vl"),
        ("lmsys/vicuna-7b-v1.5", "vicuna_v1.1"),
        ("google/gemma-2-9b-it", "gemma-it"),
        ("deepseek-ai/DeepSeek-V3", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-V3-Base", "default"),
        ("01-ai/Yi-1.5-9B-Chat", "yi-1.5"),
        ("TinyLlama/TinyLlama-1.1B", "chatml"),
    ],
)
def test_a_models_path_names_its_template(path: str, name: str) -> None:
    assert get_chat_template_by_model_path(path).name == name


def test_llama_2_puts_the_system_message_into_the_first_turn() -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    assert get_chat_template("llama-2-chat").get_prompt(messages) == (
        "[INST] <<SYS>>\nBe short.\n<</SYS>>\n\nHi [/INST]Hello </s><s>[INST] Bye [/INST]"
    )


def test_a_system_message_without_content_gets_the_default_one() -> None:
    messages = [{"role": "system", "content": None}, {"role": "user", "content": "Hi"}]
    assert get_chat_template("qwen").get_prompt(messages) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
    )
    assert get_chat_template("default").get_prompt(messages) == "USER:Hi\n"


def test_a_template_of_ones_own() -> None:
    mine = ChatTemplate("mine", None, {"user": ("<", ">")})
    register_chat_template(mine)
    try:
        assert get_chat_template("mine").get_prompt([{"role": "user", "content": "a"}]) == "<a>"
    finally:
        del chat_template_registry["mine"]
