"""The processor of a base model, by one door: how pictures reach the model, and in one line what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingExtra

# Idefics3 and SmolVLM, InternVL, Gemma3: what they call to cut a picture into several views.
_TILES = ("do_image_splitting", "crop_to_patches", "do_pan_and_scan")


def load_processor(folder: Path, images: Mapping[str, Any] | None = None) -> Any:
    """The processor of a model folder; pictures as `images` says (see `picture_settings`), None: as the folder says.

    Raises InputError, in one line, where the processor needs a package that is not installed (those of Qwen-VL,
    InternVL and SmolVLM handle videos too, and so need torchvision) or cannot do with pictures what is asked.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ImportError, OSError, ValueError) as error:
        raise InputError(f"the processor of base {Path(folder).name} {_trouble(error)}") from error
    if images is not None:
        settings = picture_settings(processor.image_processor, **images)
        for name, value in settings.items():
            setattr(processor.image_processor, name, value)
        if own := getattr(processor, "images_kwargs", None):  # Gemma3 keeps its own beside those of its image processor
            processor.images_kwargs = {**own, **{k: v for k, v in settings.items() if k in own}}
    return processor


def picture_settings(images: Any, longest_edge: int = 0, tiles: bool = False) -> dict[str, Any]:
    """What an image processor is told, by its own names (the same go to a server: `--mm-processor-kwargs`).

    tiles: whether a picture is cut into several views. longest_edge, in pixels, 0 to leave it: for Qwen-VL a picture
    has at most longest_edge**2 pixels, its proportions kept; for Idefics3 and SmolVLM with tiles, its longest edge;
    models that take one size only accept that size, and with it the whole picture is resized, where the model's own
    processor may cut it to its middle (LLaVA-1.5). Raises InputError for what the model cannot do.
    """
    kind = type(images).__name__.removesuffix("Pil").removesuffix("Fast").removesuffix("ImageProcessor")
    settings: dict[str, Any] = {name: tiles for name in _TILES if hasattr(images, name)}
    if tiles and not settings:
        raise InputError(f"images: a model with {kind} pictures takes no tiles; set tiles to false")
    if not longest_edge:
        return settings
    size = dict(getattr(images, "size", None) or {})
    if kind.startswith("Qwen"):
        area = longest_edge**2
        if area < (smallest := (images.patch_size * images.merge_size) ** 2):
            raise InputError(f"images: longest_edge {longest_edge} is less than {int(smallest**0.5)}, one image token")
        low = min(size.get("shortest_edge") or area, area)
        return settings | {"size": _size({"shortest_edge": low, "longest_edge": area})}
    if most := dict(getattr(images, "max_image_size", None) or {}).get("longest_edge"):
        if (tiles and longest_edge < most) or (not tiles and longest_edge != most):
            wanted = f"{most} or more" if tiles else f"{most} (or tiles: true)"
            raise InputError(
                f"images: longest_edge {longest_edge}, but this model reads views of {most} x {most}: {wanted}"
            )
        return settings | {"size": _size({"longest_edge": longest_edge})}
    side = dict(getattr(images, "crop_size", None) or {}).get("height") or size.get("height")
    if longest_edge != side:
        raise InputError(
            f"images: this model takes pictures of {side} x {side} pixels; longest_edge can be 0 or {side}"
        )
    whole = {"do_center_crop": False} if hasattr(images, "do_center_crop") else {}
    return settings | whole | {"size": _size({"height": side, "width": side})}


def import_trouble(error: ImportError, need: str, extra: str) -> Exception:
    """What to raise where torch, transformers and peft could not be imported: what is missing, or what breaks them.

    A torchvision that is there but does not import (built for another torch) makes transformers fail with words about
    some other module.
    """
    if find_spec("torchvision"):
        try:
            import torchvision  # noqa: F401
        except Exception as broken:
            return InputError(
                f"torchvision is installed but does not import, which breaks transformers ({broken}); uninstall it, or "
                "install the release that belongs to your torch; see dermjudge doctor"
            )
    return MissingExtra(f"{need} ({error.name or error})", extra)


def _size(edges: dict[str, int]) -> Any:
    from transformers.image_utils import SizeDict

    return SizeDict(**edges)


def _trouble(error: Exception) -> str:
    text = str(error).strip()
    if "torchvision" in text.lower() or ("video processor" in text and not find_spec("torchvision")):
        return (
            "needs torchvision, which is not installed: install the release that belongs to your torch "
            "(pip install --no-deps torchvision) and see dermjudge doctor, or take a base that does without"
        )
    if "num2words" in text:
        return "needs num2words, which is not installed: pip install num2words"
    return f"cannot be loaded: {text.splitlines()[0] if text else type(error).__name__}"
