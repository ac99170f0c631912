"""What a call costs: prices per token from a list of the user's or from litellm's local map; unknown stays None.

And how many tokens a text or a picture will take, estimated at the upper end, for `--dry-run` and budgets.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import string
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError
from ..escape import visible
from ..tablefile import parse_json, read_csv_table, read_text

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
_LETTERS = (string.ascii_letters + " ").encode()
_MARKS = (string.digits + string.punctuation + "\t\n\r").encode()


class Price(BaseModel):
    """Money per million tokens. As a function: (input tokens, output tokens) -> money, None where one is unknown.

    >>> Price(input_per_million=2.5, output_per_million=10)(1000, 100)
    0.0035
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_per_million: Amount
    output_per_million: Amount
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    source: str = ""

    def __call__(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        if input_tokens is None or output_tokens is None:
            return None
        return (input_tokens * self.input_per_million + output_tokens * self.output_per_million) / 1e6


def read_prices(path: str | Path) -> dict[str, Price]:
    """A price list by model: YAML (model -> fields of Price) or CSV (a column `model` and the fields).

    The name of a model is what a run calls it, with or without what stands before its last '/' or '#'. InputError that
    names the entry and field.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        rows = [(str(row.pop("model", "") or ""), row) for _, row in read_csv_table(path).dicts()]
        rows = [(name, {key: _cell(key, cell) for key, cell in row.items() if cell != ""}) for name, row in rows]
    elif path.suffix.lower() in (".yaml", ".yml"):
        try:
            content = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            raise InputError(f"{path} is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{path}: a mapping is needed, as in 'gpt-4o-2024-08-06: {{input_per_million: 2.5, ...}}'")
        rows = [(str(name), entry) for name, entry in content.items()]
    else:
        raise InputError(f"{path}: a price list ends in .yaml or .csv")
    prices: dict[str, Price] = {}
    for name, entry in rows:
        if not name or name in prices:
            raise InputError(f"{path}: {f'{visible(name)} stands twice' if name else 'an entry names no model'}")
        try:
            prices[name] = Price.model_validate({"source": path.name, **entry} if isinstance(entry, dict) else entry)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join([visible(name), *map(str, first["loc"])])
            raise InputError(
                f"{path}: {place}: {first['msg']}; the fields are {', '.join(Price.model_fields)}"
            ) from error
    return prices


def price_of(model: str, prices: Mapping[str, Price] | None = None) -> Price | None:
    """The price of a model: from the list, else from litellm's map for `litellm:` names, else None (unknown, not 0).

    >>> mine = {"qwen": Price(input_per_million=0, output_per_million=0)}
    >>> price_of("endpoint:http://localhost:8000/v1#qwen", mine).input_per_million, price_of("local:qwen2")
    (0.0, None)
    """
    kind, _, rest = model.partition(":")
    for name in (model, rest, re.split(r"[/#]", rest)[-1]):
        if name and name in (prices or {}):
            return (prices or {})[name]
    return hosted_price(rest) if kind == "litellm" else None


@cache
def hosted_price(model: str) -> Price | None:
    """The price of "provider/model" in litellm's own map (its file in the package, in USD); None if it has none.

    Discounts (cached input, batches) are left out, so it is the upper end but for very long prompts.
    """
    provider, _, bare = model.partition("/")
    known = _litellm_map()
    for name in (model, bare):
        entry = known.get(name)
        if entry and entry.get("litellm_provider") in (provider, "text-completion-openai"):
            one, two = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
            if one is not None and two is not None:
                return Price(input_per_million=round(one * 1e6, 9), output_per_million=round(two * 1e6, 9),
                             source="litellm's local map")  # fmt: skip
    return None


def _litellm_map() -> dict[str, Any]:
    """Read from the package's file: importing litellm would take two seconds. Not kept: it holds 100,000 objects."""
    found = importlib.util.find_spec("litellm")
    if found is None or found.origin is None:
        return {}
    try:
        return json.loads(
            Path(found.origin).with_name("model_prices_and_context_window_backup.json").read_text("utf-8")
        )
    except (OSError, ValueError):
        return {}


def text_tokens(text: str) -> int:
    """Tokens of a text at the upper end: ASCII letters and blanks 3 a token, digits and marks 1.5, other bytes 1.75.

    Above the count of cl100k and o200k on clinical prose in five European languages, on Chinese and on JSON.

    >>> text_tokens("A pearly papule on the nose.")
    10
    """
    data = text.encode("utf-8", "surrogatepass")
    rest = data.translate(None, _LETTERS)
    wide = rest.translate(None, _MARKS)
    return math.ceil((len(data) - len(rest)) / 3 + (len(rest) - len(wide)) / 1.5 + len(wide) / 1.75)


def picture_tokens(width: int, height: int, model: str = "") -> int:
    """Tokens of a picture of so many pixels at the upper end of what providers state for their models.

    The larger of 28-pixel patches (Qwen-VL) and width x height / 750 (Anthropic), at least 1120 for Gemini. OpenAI:
    32-pixel patches times a factor for mini and nano models, 2833 + 5667 per 512-pixel tile for gpt-4o-mini.

    >>> picture_tokens(1568, 1176, "litellm:anthropic/claude-sonnet-4-5"), picture_tokens(512, 512, "gpt-4o-mini")
    (2459, 8500)
    """
    name = model.lower()
    if "gpt-4o-mini" in name:
        scale = min(1.0, 2048 / max(width, height))
        scale *= min(1.0, 768 / (min(width, height) * scale))
        return 2833 + 5667 * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)
    tokens = max(math.ceil(width / 28) * math.ceil(height / 28), math.ceil(width * height / 750))
    if re.search(r"gpt|\bo\d", name) and (small := re.search(r"mini|nano", name)):
        patches = min(1536, math.ceil(width / 32) * math.ceil(height / 32))
        tokens = max(tokens, math.ceil(patches * (2.46 if small.group() == "nano" else 1.72)))
    return max(tokens, 1120 if "gemini" in name else 255)


def _cell(name: str, cell: Any) -> Any:
    if not name.endswith("_per_million"):
        return cell
    try:
        return float(parse_json(str(cell)))
    except (TypeError, ValueError):
        return cell
