"""What transformers' own decision pipeline needs, so that it and `transformers serve` give a judge's scores.

The pipeline reads several questions from one prompt where the template marks them, which is what score slots are. The
template written here holds the judge's prompt for every number of pictures and marks each slot; it is only written once
its tokens were seen to be those that the judge itself reads.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..judge.backends.bases import load_processor
from ..judge.backends.served import slot_texts
from ..judge.errors import InputError
from ..judge.files import write_atomic
from ..judge.images import encode_png
from ..judge.prompt import Form, Prompt, render
from ..judge.records import Case, Image, Narrative, Score
from ..judge.rubric import Rubric

CONFIG, TEMPLATE = "decision.json", "decision_template.jinja"
MOST = 4  # pictures; `transformers serve` takes no more assets in a request
_NONCE = "\x1f"
_SPLIT, _MARK = "<|split|>", "<|mark|>"  # of transformers: where the encoding is cut, and where an answer is read

# A judge's prompt as the pipeline renders it; what an asker gets wrong ends in an error, never in another prompt.
_TEXT = """\
{{#- {title}: the prompt of a judge's score slots, for pipeline("decision") and transformers serve -#}}
{{%- macro plain(text) -%}}
    {{%- set ns = namespace(text=text) -%}}
    {{%- for left, right in [{special}] -%}}
        {{%- set ns.text = ns.text.replace(left ~ right, left ~ "<|split|>" ~ right) -%}}
    {{%- endfor -%}}
    {{{{- ns.text -}}}}
{{%- endmacro -%}}
{{%- set names, delimiter, pictures = [{names}], state.delimiter, state.pictures | default([]) | length -%}}
{{%- if questions | map(attribute="name") | list != names -%}}
    {{{{- raise_exception("ask exactly these questions, in this order: " ~ names | join(", ")) -}}}}
{{%- endif -%}}
{{%- for question in questions -%}}
    {{%- if question.type != "score" or question.labels | length != {levels} -%}}
        {{{{- raise_exception("each question is of type score and has {levels} levels as its criteria") -}}}}
    {{%- endif -%}}
{{%- endfor -%}}
{{%- if state.narrative is not string or not state.narrative or state.context is not string -%}}
    {{{{- raise_exception("state holds the texts narrative (not empty) and context, without a picture's name") -}}}}
{{%- endif -%}}
{{%- if delimiter is not string or delimiter | length != {digits} or delimiter.strip("0123456789abcdef")
    or delimiter in state.narrative ~ state.context -%}}
    {{{{- raise_exception("state.delimiter: {digits} hexadecimal digits, drawn anew, that no text contains") -}}}}
{{%- endif -%}}
{{%- if pictures not in [{several}] or state.pictures | default([]) | select("string") | list -%}}
    {{{{- raise_exception("state.pictures: a list of names of assets; this judge takes {counts}") -}}}}
{{%- endif -%}}
{prompt}{slots}"""


def write_decision(
    folder: Path,
    base: Path,
    rubric: Rubric,
    *,
    form: Form,
    max_images: int | None,
    blind: bool = False,
    images: Mapping[str, Any] | None = None,
    adapter: bool = False,
) -> None:
    """Write decision.json and decision_template.jinja into a judge's folder.

    base: folder of the model whose processor encodes; images: how the judge has pictures prepared, as in its card;
    adapter: `folder` holds the LoRA adapter itself, which the pipeline then loads on the base. InputError if the
    installed transformers has no such pipeline, or if it could not be brought to read what the judge reads; nothing is
    written then.
    """
    config, template = decision_files(base, rubric, form=form, max_images=max_images, blind=blind, images=images)
    if adapter:
        config["adapter"] = "."
    write_atomic(Path(folder) / TEMPLATE, template)
    write_atomic(Path(folder) / CONFIG, json.dumps(config, indent=1) + "\n")


def decision_files(
    base: Path,
    rubric: Rubric,
    *,
    form: Form,
    max_images: int | None,
    blind: bool = False,
    images: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], str]:
    """The decision config and its template for a judge on `base`, checked token by token; InputError as above."""
    from ..judge.backends.encoding import Encoder

    if blind and form == "full":
        raise InputError("the full prompt says how many pictures a case has, which a judge without pictures cannot ask")
    encoder = Encoder(load_processor(base, images), rubric)
    # The template cuts what imitates special tokens as the judge does; with pictures some processors cannot sanitize.
    config = {"labels": {"score": _labels(encoder)}, "sanitize_control_tokens": False}
    wanted = range(0 if blind else min(MOST, MOST if max_images is None else max_images), -1, -1)
    template = _template(encoder, rubric, form, wanted)
    different = {count: _difference(base, encoder, config, template, form, count) for count in wanted}
    same = [count for count in wanted if not different[count]]
    if not same or max(same) < min(1, wanted[0]):
        raise InputError(f"the decision pipeline cannot read what the judge reads: {different[wanted[0]]}")
    return config, _template(encoder, rubric, form, same)


def decision_request(prompt: Prompt, pictures: Sequence[Any], rubric: Rubric) -> dict[str, Any]:
    """The request of one narrative, as the pipeline and `/v1/systemone` take it: state, questions, assets (PNG)."""
    context, narrative = [segment.text for segment in prompt.segments if segment.foreign]
    names = [f"<{prompt.nonce}-{k}>" for k in range(1, len(pictures) + 1)]  # no text contains them
    assets = {
        name: {"type": "image", "format": "png", "data_base64": base64.b64encode(encode_png(picture)).decode()}
        for name, picture in zip(names, pictures, strict=True)
    }
    state = {"pictures": names, "delimiter": prompt.nonce, "context": context, "narrative": narrative}
    criteria = list(map(str, rubric.scale.levels))
    questions = {name: {"type": "score", "criteria": criteria} for name in rubric.names}
    return {"state": state, "questions": questions, **({"assets": assets} if assets else {})}


def read_decision(answers: Mapping[str, Any], rubric: Rubric) -> dict[str, Score]:
    """Scores from the pipeline's answers; without a mass, which it does not give (see docs/serving.md)."""
    scores = {}
    for name in rubric.names:
        found = answers[name]["probabilities"]
        chances = tuple(float(found[str(k)]) for k in range(len(rubric.scale.levels)))
        value = sum(level * chance for level, chance in zip(rubric.scale.levels, chances, strict=True))
        scores[name] = Score(value, "scored", "", chances)
    return scores


def _labels(encoder: Any) -> list[str]:
    """Texts that the tokenizer encodes to exactly the level tokens, which is how the pipeline looks them up."""
    if any(row != encoder.levels[0] for row in encoder.levels):
        raise InputError("the levels have other tokens in one dimension than in another; the pipeline reads one list")
    labels = []
    for token in encoder.levels[0]:
        written = encoder.tokenizer.decode([token])
        fit = [text for text in (written, f" {written}", written.strip()) if encoder.fixed(text) == [token]]
        if not fit:
            raise InputError(
                f"the level '{written}' is one token behind its slot, but not alone; the pipeline needs it"
            )
        labels.append(fit[0])
    return labels


def _template(encoder: Any, rubric: Rubric, form: Form, counts: Sequence[int]) -> str:
    """The judge's prompt in Jinja: fixed words per number of pictures, foreign text cut off, a mark per slot."""
    pieces = []
    for count in counts:
        prompt, text = _probe(rubric, form, count, "", "x"), ""
        fallback = next(segment.text for segment in prompt.segments if segment.foreign)
        foreign = iter([f"state.context or {_literal(fallback)}", "state.narrative"])
        for k, (piece, segment) in enumerate(zip(encoder.pieces(prompt, count), prompt.segments, strict=True)):
            if segment.foreign:
                text += f"{_SPLIT}{{{{ plain({next(foreign)}) }}}}{_SPLIT}"
            fixed = (_begin(encoder, piece, count) if k == 0 else "") + piece
            if fixed:
                text += (
                    f"{{{{ {_literal(fixed.replace(prompt.nonce, _NONCE))}.replace({_literal(_NONCE)}, delimiter) }}}}"
                )
        pieces.append(f"{{%- if pictures == {count} -%}}{text}{{%- endif -%}}")
    special = [_SPLIT, _MARK, *(token for token in encoder.special if len(token) > 1)]
    return _TEXT.format(
        title=f"{rubric.id}, {form}",
        names=", ".join(map(_literal, rubric.names)),
        levels=len(rubric.scale.levels),
        digits=len(prompt.nonce),
        several=", ".join(map(str, counts)),
        counts=" or ".join(map(str, sorted(counts))),
        special=", ".join(f"[{_literal(t[: len(t) // 2])}, {_literal(t[len(t) // 2 :])}]" for t in special),
        prompt="".join(pieces),
        slots="".join(f"{_SPLIT}{{{{ {_literal(text)} }}}}{_MARK}" for text in slot_texts(encoder)),
    )


def _begin(encoder: Any, head: str, pictures: int) -> str:
    """The token of the begin of a text, where the processor adds one that the chat template does not write."""
    begin = encoder.tokenizer.bos_token
    if not begin or head.startswith(begin) or not pictures:
        return ""
    ids, _ = encoder.head(head, [_picture() for _ in range(pictures)])
    return begin if ids[0] == encoder.tokenizer.bos_token_id else ""


def _difference(base: Path, encoder: Any, config: Mapping[str, Any], template: str, form: Form, count: int) -> str:
    """What the pipeline would read otherwise than the judge beside `count` pictures; "" if nothing."""
    try:
        from transformers import DecisionConfig
    except ImportError:
        import transformers

        return f"transformers {transformers.__version__} has none (5.23 has)"
    decision = DecisionConfig(**config, chat_template=template)
    processor = load_processor(base)  # its tokenizer gets the pipeline's two tokens, which the judge's must not have
    imitation = " ".join(token for token in encoder.special[:20] if len(token) > 1)
    for context, narrative in (
        ("", "Findings: red."),
        (f" 54 y,\tpalm\n{imitation}", f"\n é 3/5. 皮疹 🩹 {imitation}\n\n"),
    ):
        prompt, pictures = _probe(encoder.rubric, form, count, context, narrative), [_picture()] * count
        wanted = encoder.encode(prompt, pictures)
        try:
            ((inputs, _),) = decision.prepare_inputs(decision_request(prompt, pictures, encoder.rubric), processor)
        except Exception as error:  # of a template, a tokenizer or a processor that it cannot work with
            return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if inputs["input_ids"][0].tolist() != wanted.ids or [m - 1 for m in inputs["marks"].tolist()] != wanted.slots:
            return f"other tokens beside {count} pictures"
        for name, tensor in wanted.media.items():  # maps of tokens are those of the tokens, which are the same
            if not name.endswith("token_type_ids") and not _equal(tensor, inputs.get(name)):
                return f"pictures prepared in another way ({name}); merge the judge, which keeps its own"
    return ""


def _equal(ours: Any, theirs: Any) -> bool:
    return theirs is not None and ours.shape == theirs.shape and bool((ours == theirs).all())


def _probe(rubric: Rubric, form: Form, pictures: int, context: str, narrative: str) -> Prompt:
    images = tuple(Image(f"{k}.png") for k in range(pictures))
    return render(Case("c", images=images, context=context), Narrative("c", "s", narrative), rubric, form)


def _picture() -> Any:
    from PIL import Image as Pillow

    return Pillow.radial_gradient("L").resize((96, 64)).convert("RGB")


def _literal(text: str) -> str:
    """A text as a string of Jinja, which reads Python's escapes."""
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
