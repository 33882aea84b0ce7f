"""Where a model comes from: a name, a path or a hub id becomes a directory of safetensors.

A GGUF file is dequantised through transformers once and kept as safetensors in the cache folder;
later starts read that. Knows files, not arithmetic.
"""

import hashlib
import io
import shutil
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

from ramet.runtime.embedded import EMBEDDED, embedded_file
from ramet.runtime.errors import ModelError


def find(name: str, cache: Path) -> Path:
    """The directory with `config.json`, tokenizer and safetensors of a model.

    Args:
        name: an embedded model's name, a directory, a `.gguf` file, or a hub id `owner/name`.
        cache: where converted models are kept.

    Raises:
        ModelError: nothing answers to the name; says what was tried.
    """
    path = Path(name).expanduser()
    if name in EMBEDDED:
        return _converted(embedded_file(name), cache)
    if path.suffix == ".gguf" and path.is_file():
        return _converted(path, cache)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{path} is a directory without a config.json")
        return path
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _from_hub(name)
    known = ", ".join(sorted(EMBEDDED))
    raise ModelError(
        f"unknown model {name!r}: not an embedded model ({known}), an existing directory or "
        ".gguf file, or a hub id such as 'owner/name'"
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name!r} is no directory here, and the hub does not give it: {error}"
        ) from error


def _converted(gguf: Path, cache: Path) -> Path:
    target = cache / f"{gguf.stem}-{_fingerprint(gguf)}"
    if not (target / "config.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=cache))
        try:
            with redirect_stderr(io.StringIO()):  # progress bars of three libraries
                _convert(gguf, work)
            _publish(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def _publish(work: Path, target: Path) -> None:
    """Move into place; another process may have been faster, and its result is as good."""
    try:
        work.rename(target)
    except OSError:
        if not (target / "config.json").is_file():
            raise


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"gguf_file": gguf.name, "local_files_only": True}
    try:
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    except Exception as error:  # of half a dozen libraries
        raise ModelError(f"{gguf}: transformers cannot read this GGUF file: {error}") from error
    # The weights are plain floats by now; without the mark, transformers agrees to save them.
    delattr(model, "hf_quantizer")
    delattr(model.config, "quantization_config")
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _fingerprint(path: Path) -> str:
    """Tells files apart without reading them whole: name, size, and the first and last MiB."""
    digest = hashlib.sha256(f"{path.name}:{path.stat().st_size}".encode())
    with path.open("rb") as file:
        digest.update(file.read(1 << 20))
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        digest.update(file.read())
    return digest.hexdigest()[:16]
