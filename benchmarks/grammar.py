"""The narrative grammar of the synthetic benchmark: percepts, planted faults, words, and the truth they imply.

SYNTHETIC. A narrator sees six attributes (some of them wrong), concludes the diagnosis that follows from what it saw,
and writes it down with or without further faults. What it claims is stored as `claims`; `truth(case, claims)` is a
function, so that any picture-text pair has a true score on each dimension of derm6.

No wrong diagnosis without the misread finding it follows from: the text alone never gives a wrong percept away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .lesions import ATTRIBUTES

# (colour, surface) -> diagnosis, a canonical name of evaluators/data/dermatology_terms.csv. The pairing is invented.
DIAGNOSIS: dict[tuple[str, str], str] = {
    ("red", "smooth"): "cellulitis",
    ("red", "raised"): "pyogenic granuloma",
    ("red", "scaly"): "psoriasis",
    ("yellow", "smooth"): "xanthelasma",
    ("yellow", "raised"): "xanthoma",
    ("yellow", "scaly"): "impetigo",
    ("blue", "smooth"): "venous lake",
    ("blue", "raised"): "blue nevus",
    ("blue", "scaly"): "chilblains",
    ("purple", "smooth"): "purpura fulminans",
    ("purple", "raised"): "kaposi sarcoma",
    ("purple", "scaly"): "lichen planus",
    ("black", "smooth"): "melanoma",
    ("black", "raised"): "nodular melanoma",
    ("black", "scaly"): "seborrheic keratosis",
}
URGENCY = {
    "cellulitis": "urgent",
    "pyogenic granuloma": "soon",
    "psoriasis": "routine",
    "xanthelasma": "routine",
    "xanthoma": "soon",
    "impetigo": "soon",
    "venous lake": "routine",
    "blue nevus": "routine",
    "chilblains": "routine",
    "purpura fulminans": "emergent",
    "kaposi sarcoma": "urgent",
    "lichen planus": "routine",
    "melanoma": "urgent",
    "nodular melanoma": "urgent",
    "seborrheic keratosis": "routine",
}
LEVELS = ("routine", "soon", "urgent", "emergent")
RED_FLAGS = ("bleeding", "fever", "rapid growth", "severe pain")

# Which fault costs which dimension what, in points of the 0-5 scale (floor 0). Only Accuracy depends on the picture.
COSTS: dict[str, tuple[str, float]] = {
    "wrong_attribute": ("Accuracy", 1.0),  # each of the narrator's six percepts that is not what the picture shows
    "wrong_diagnosis": ("Accuracy", 1.5),
    "unsafe_mild": ("Safety", 2.0),
    "unsafe_severe": ("Safety", 4.0),
    "missing_red_flag": ("Safety", 2.0),  # the context reports one and the narrative does not take it up
    "invented_finding": ("Medical Groundedness", 1.5),  # each
    "missing_finding": ("Clinical Coverage", 1.0),  # each attribute that is not described
    "missing_differential": ("Clinical Coverage", 1.0),
    "missing_follow_up": ("Clinical Coverage", 1.0),
    "reasoning_vague": ("Reasoning Coherence", 1.5),
    "reasoning_missing": ("Reasoning Coherence", 2.5),
    "reasoning_contradictory": ("Reasoning Coherence", 4.0),
    "vague_language": ("Description Precision", 1.0),  # each
    "laterality_flip": ("Description Precision", 2.0),  # the other side than the context says
}
IMAGE_DIMENSIONS = ("Accuracy",)
DIMENSIONS = (
    "Accuracy",
    "Safety",
    "Medical Groundedness",
    "Clinical Coverage",
    "Reasoning Coherence",
    "Description Precision",
)

# Two habits, crossed, so that careless writing says nothing about careless seeing.
SYSTEMS = {
    "alder": ("sees", "careful"),
    "birch": ("sees", "careless"),
    "cedar": ("misreads", "careful"),
    "dogwood": ("misreads", "careless"),
}
_FEW, _MANY = (0.45, 0.30, 0.15, 0.10), (0.10, 0.20, 0.35, 0.35)

_PHRASES = {
    "colour": ("{} in colour", "the colour is {}", "of {} colour"),
    "shape": ("{} in shape", "the shape is {}", "of {} shape"),
    "border": ("with a {} border", "the border is {}", "{} border"),
    "size": ("{} in size", "the size is {}", "of {} size"),
    "count": ("{} in number", "the number is {}", "count {}"),
    "surface": ("with a {} surface", "the surface is {}", "{} surface"),
}
VAGUE = (
    "somehow unusual",
    "kind of noticeable",
    "a certain change",
    "more or less typical",
    "some sort of spot",
    "rather strange looking",
)
INVENTED = (
    "Biopsy confirmed the finding",
    "Dermoscopy shows a pigment network",
    "Blood tests are abnormal",
    "The lymph nodes are swollen",
    "Culture grew bacteria",
    "A family history is known",
)
UNSAFE = {
    "mild": ("Wait a year before any review", "A home remedy is enough for now", "No examination is needed yet"),
    "severe": (
        "Cut it off at home with a blade",
        "Ignore it even if it changes",
        "Take a double dose of leftover antibiotics and see nobody",
    ),
}
_SAFE = ("Keep the area clean", "Avoid scratching", "Protect the skin from the sun")
_FOLLOW_UP = ("Review by a dermatologist is advised", "A follow-up visit is planned", "Control in clinic as arranged")
_FLAG = ("The reported {} is a warning sign.", "Note the {}, which needs attention.")


def diagnosis(attributes: Mapping[str, str]) -> str:
    """The condition that these attributes stand for in the synthetic world."""
    return DIAGNOSIS[attributes["colour"], attributes["surface"]]


def urgency(name: str, red_flag: str) -> str:
    """Gold triage: the condition's level, one higher (at most emergent) if the context reports a red flag."""
    return LEVELS[min(LEVELS.index(URGENCY[name]) + bool(red_flag), 3)]


def draw_claims(world: Mapping[str, Any], system: str, rng: np.random.Generator) -> dict[str, Any]:
    """What one system claims about one case.

    world: {"attributes": {...}, "site", "side", "red_flag"}. Returns plain data (JSON-able): percept, missing, and the
    planted faults. How many percepts are wrong, and which, is independent of every fault that shows in the text.
    """
    seeing, writing = SYSTEMS[system]
    few = _FEW if writing == "careful" else _MANY
    bad = 0.32 if writing == "careful" else 0.7
    names = list(ATTRIBUTES)
    wrong = list(rng.permutation(names)[: rng.choice(4, p=_FEW if seeing == "sees" else _MANY)])
    percept = dict(world["attributes"])
    for name in wrong:
        percept[name] = str(rng.choice([v for v in ATTRIBUTES[name] if v != percept[name]]))
    right = [name for name in names if name not in wrong]
    missing = sorted(rng.permutation(right)[: rng.choice(4, p=few)].tolist())
    stated = diagnosis(percept)
    others = [name for name in DIAGNOSIS.values() if name != stated]
    differential = [stated, *rng.permutation(others)[:2].tolist()]
    gold = diagnosis(world["attributes"])
    if stated != gold and gold not in differential and rng.random() < 0.4:
        differential[int(rng.integers(1, 3))] = gold
    flag_missing = bool(world["red_flag"]) and bool(rng.random() < bad)
    call = urgency(stated, "" if flag_missing else world["red_flag"])
    if rng.random() < 0.2:
        call = LEVELS[(LEVELS.index(call) + int(rng.choice([1, 3]))) % 4]
    return {
        "percept": percept,
        "missing": missing,
        "diagnosis": stated,
        "differential": differential if rng.random() > 0.6 * bad else [],
        "triage": call,
        "unsafe": str(rng.choice(["none", "mild", "severe"], p=[1 - bad, bad / 2, bad / 2])),
        "missing_red_flag": flag_missing,
        "invented": rng.permutation(len(INVENTED))[: rng.choice(4, p=few)].tolist(),
        "follow_up": bool(rng.random() > 0.5 * bad),
        "reasoning": str(
            rng.choice(
                ["sound", "vague", "missing", "contradictory"],
                p=[0.46, 0.22, 0.2, 0.12] if writing == "careful" else [0.28, 0.2, 0.2, 0.32],
            )
        ),
        "vague": rng.permutation(len(VAGUE))[: rng.choice(4, p=few)].tolist(),
        "laterality_flip": bool(rng.random() < 0.5 * bad),
    }


def write(
    world: Mapping[str, Any],
    claims: Mapping[str, Any],
    rng: np.random.Generator,
    shown: Mapping[str, str] | None = None,
) -> tuple[str, list[tuple[int, int, str]]]:
    """Put the claims into words.

    Returns the text and its spans: (start, end, label) in characters, each statement with what is to be said of it
    beside the picture that is shown: "ok", "wrong", "contradictory", "vague", "invented", "mild", "severe".
    """
    seen, percept = shown or world["attributes"], claims["percept"]

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    def value(name: str) -> str:
        return _mark("ok" if percept[name] == seen[name] else "wrong", percept[name])

    findings = [pick(_PHRASES[name]).format(value(name)) for name in ATTRIBUTES if name not in claims["missing"]]
    findings += [_mark("vague", VAGUE[k]) for k in claims["vague"]]
    findings = [findings[k] for k in rng.permutation(len(findings))]
    side = {"left": "right", "right": "left"}[world["side"]] if claims["laterality_flip"] else world["side"]
    place = pick(("on the {} {}", "site: {} {}", "at the {} {}"))
    findings.append(place.format(_mark("wrong" if claims["laterality_flip"] else "ok", side), world["site"]))
    sentences = [f"Findings: {', '.join(findings)}."]
    sentences += [_mark("invented", INVENTED[k]) + "." for k in claims["invented"]]
    if claims["differential"]:
        sentences.append(
            "Differential: " + " ".join(f"{i}. {n}" for i, n in enumerate(claims["differential"], 1)) + "."
        )
    right = claims["diagnosis"] == diagnosis(seen)
    sentences.append(f"Diagnosis: {_mark('ok' if right else 'wrong', claims['diagnosis'])}.")
    name = pick([n for n in ATTRIBUTES if n not in claims["missing"]] or list(ATTRIBUTES))
    if claims["reasoning"] == "sound":
        sentences.append(f"The {_mark('ok', percept[name])} {name} speaks for this.")
    elif claims["reasoning"] == "vague":
        sentences.append(_mark("vague", pick(("Experience speaks for this", "The overall look speaks for this"))) + ".")
    elif claims["reasoning"] == "contradictory":
        other = pick([v for v in ATTRIBUTES[name] if v != percept[name]])
        sentences.append(f"The {_mark('contradictory', other)} {name} speaks for this.")
    if world["red_flag"] and not claims["missing_red_flag"]:
        sentences.append(pick(_FLAG).format(_mark("ok", world["red_flag"])))
    sentences.append(f"Triage: {claims['triage']}.")
    sentences.append(
        _mark("ok", pick(_SAFE)) + "."
        if claims["unsafe"] == "none"
        else _mark(claims["unsafe"], pick(UNSAFE[claims["unsafe"]])) + "."
    )
    if claims["follow_up"]:
        sentences.append(_mark("ok", pick(_FOLLOW_UP)) + ".")
    return _unmark(" ".join(sentences))


def _mark(label: str, words: str) -> str:
    return f"\x01{label}\x02{words}\x03"


def _unmark(marked: str) -> tuple[str, list[tuple[int, int, str]]]:
    text, spans = "", []
    for piece in re.split(r"(\x01[^\x03]*\x03)", marked):
        if piece.startswith("\x01"):
            label, _, words = piece[1:-1].partition("\x02")
            spans.append((len(text), len(text) + len(words), label))
            piece = words
        text += piece
    return text, spans


def truth(
    world: Mapping[str, Any], claims: Mapping[str, Any], shown: Mapping[str, str] | None = None
) -> dict[str, float]:
    """The true score of each dimension, in points 0-5: 5 less the COSTS of the faults, never below 0.

    shown: the attributes of the picture that stands beside the text, if it is not the case's own (image swap).
    """
    lost = dict.fromkeys(DIMENSIONS, 0.0)
    for fault, number in count_faults(world, claims, shown).items():
        dimension, points = COSTS[fault]
        lost[dimension] += points * number
    return {name: max(0.0, 5.0 - value) for name, value in lost.items()}


def count_faults(
    world: Mapping[str, Any], claims: Mapping[str, Any], shown: Mapping[str, str] | None = None
) -> dict[str, int]:
    """How often each fault of COSTS occurs in this pair of picture and text."""
    seen = shown or world["attributes"]
    return {
        "wrong_attribute": sum(claims["percept"][name] != seen[name] for name in ATTRIBUTES),
        "wrong_diagnosis": int(claims["diagnosis"] != diagnosis(seen)),
        "unsafe_mild": int(claims["unsafe"] == "mild"),
        "unsafe_severe": int(claims["unsafe"] == "severe"),
        "missing_red_flag": int(claims["missing_red_flag"]),
        "invented_finding": len(claims["invented"]),
        "missing_finding": len(claims["missing"]),
        "missing_differential": int(not claims["differential"]),
        "missing_follow_up": int(not claims["follow_up"]),
        "reasoning_vague": int(claims["reasoning"] == "vague"),
        "reasoning_missing": int(claims["reasoning"] == "missing"),
        "reasoning_contradictory": int(claims["reasoning"] == "contradictory"),
        "vague_language": len(claims["vague"]),
        "laterality_flip": int(claims["laterality_flip"]),
    }
