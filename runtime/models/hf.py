"""Any transformers causal language model, with its attention replaced by ours.

transformers looks an attention function up by name; ours is registered once as `ramet`, and finds
the step to run in among the keyword arguments, which models hand down to their attention. So no
state is shared between engines, and a model that does not hand them down is refused when loaded.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModelForCausalLM
from transformers.masking_utils import AttentionMaskInterface

from ramet.runtime.errors import ModelError
from ramet.runtime.models.model import ModelShape, PagedAttention

NAME = "ramet"
ARGUMENT = "ramet_attention"


def paged_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function over `[1, heads, T, head_dim]`; gives `[1, T, heads, …]`."""
    attend = arguments.get(ARGUMENT)
    if attend is None:
        raise ModelError(f"{type(module).__name__} does not pass arguments on to its attention")
    if arguments.get("s_aux") is not None:
        raise ModelError(f"{type(module).__name__} has attention sinks, which are not supported")
    rows = [part[0].transpose(0, 1) for part in (query, key, value)]
    out = attend(
        module.layer_idx,
        *(part.contiguous() for part in rows),
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
        softcap=softcap,
    )
    return out.unsqueeze(0), None


def no_mask(*args: Any, **kwargs: Any) -> None:
    """The causal rule is in the paged attention; there is no mask to build."""


AttentionInterface.register(NAME, paged_attention)
AttentionMaskInterface.register(NAME, no_mask)


class HuggingFaceModel:
    """A transformers model that runs varlen batches over the block cache."""

    def __init__(self, module: nn.Module, shape: ModelShape) -> None:
        self.shape = shape
        self._module = module
        self._selects_rows = "logits_to_keep" in inspect.signature(module.forward).parameters

    @torch.inference_mode()
    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        keep: dict[str, Any] = {"logits_to_keep": rows} if self._selects_rows else {}
        logits = _call(self._module, tokens, positions, attention, **keep)
        return (logits if keep else logits.index_select(0, rows)).float()


def load(
    directory: Path, dtype: torch.dtype, device: torch.device, name: str, eos: frozenset[int]
) -> HuggingFaceModel:
    """Load a model directory through transformers and learn its cache's shape by a trial run.

    Raises:
        ModelError: transformers cannot load it, or its attention cannot be replaced.
    """
    module = _module(directory, dtype, device, name).eval()
    text = module.config.get_text_config()
    _check_independent(text, name)
    layers, kv_heads, head_dim = _probe(module, name)
    shape = ModelShape(
        layers=layers,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=int(text.vocab_size),
        context=int(text.max_position_embeddings),
        eos=eos,
        dtype=dtype,
        name=name,
        device=device,
    )
    return HuggingFaceModel(module, shape)


def _module(directory: Path, dtype: torch.dtype, device: torch.device, name: str) -> Any:
    """The weights as they are in the files: none made up, none read from a pickle."""
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype,
            device_map=None if device.type == "cpu" else {"": device},
            attn_implementation=NAME,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # of half a dozen libraries
        raise ModelError(f"transformers cannot load {name}: {error}") from error
    module, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"the checkpoint has no tensor {missing[0]!r}")
    return module


def _check_independent(config: Any, name: str) -> None:
    """Refuse what would make a token depend on other sequences, or see what causal ones do not."""
    ropes = getattr(config, "rope_parameters", None) or {}
    for rope in (ropes, *(part for part in ropes.values() if isinstance(part, dict))):
        if rope.get("rope_type") in ("dynamic", "longrope"):
            raise ModelError(
                f"{name}: rope type {rope['rope_type']!r} changes with the longest sequence of a "
                "batch, so one request would change another's text"
            )
    kinds = set(getattr(config, "layer_types", None) or ())
    if foreign := sorted(kinds - {"full_attention", "sliding_attention"}):
        raise ModelError(f"{name}: layers of type {foreign[0]!r} are not supported")


@torch.inference_mode()
def _probe(module: Any, name: str) -> tuple[int, int, int]:
    """Layers, key heads and head size, seen in a run over two tokens."""
    seen: dict[int, tuple[int, int]] = {}

    def record(layer: int, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        if key.shape != value.shape:
            raise ModelError(f"{name}: keys and values of different sizes are not supported")
        seen[layer] = (key.shape[1], key.shape[2])
        return torch.zeros_like(query)

    try:
        two = torch.tensor([0, 1], device=module.device)
        _call(module, two, two, record)
    except (TypeError, AttributeError) as error:
        raise ModelError(f"{name}: its attention cannot be replaced ({error})") from error
    if sorted(seen) != list(range(len(seen))) or len(set(seen.values())) != 1:
        raise ModelError(f"{name}: layers must all attend, alike; saw {seen or 'none'}")
    return len(seen), *seen[0]


def _call(
    module: nn.Module,
    tokens: Tensor,
    positions: Tensor,
    attention: Callable[..., Tensor],
    **keep: Any,
) -> Tensor:
    """Logits `[rows kept, vocab]`."""
    output = module(
        input_ids=tokens.unsqueeze(0),
        position_ids=positions.unsqueeze(0),
        use_cache=False,
        **{ARGUMENT: attention},
        **keep,
    )
    return output.logits[0]
