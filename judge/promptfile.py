"""A prompt of the user's own, read from a file: slots in braces take the texts, every other brace stays as it is.

So the prompt of a published judge can be used from the user's copy, word by word, whatever JSON it shows.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from .errors import InputError
from .parse import answer_instructions
from .prompt import Prompt, Segment, check_texts, make_nonce
from .records import Case, Narrative
from .rubric import Rubric

MAX_BYTES = 200_000
SLOTS = {
    "narrative": "narrative", "candidate": "narrative", "candidate_text": "narrative",
    "reference": "reference", "reference_text": "reference",
    "context": "context", "rubric": "rubric", "answer": "answer",
}  # fmt: skip
_SLOT = re.compile(r"\{(" + "|".join(SLOTS) + r")\}")


class PromptFile:
    """The words of a file with slots: {narrative} (or {candidate}, {candidate_text}), {reference} (or
    {reference_text}), {context}, {rubric} (ours, verbatim) and {answer} (our words that ask for the score block).

    Each slot is filled once and what stands in it is never looked at again, so a narrative that says "{reference}" gets
    nothing. Without {answer} the file asks for scores itself: a JSON object with "scores" or lines "Name: N" at the
    end. InputError for a file that cannot be read, is empty or has no slot for the narrative.
    """

    def __init__(self, path: str | Path):
        try:
            data = Path(path).read_bytes()
            text = data.decode("utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the prompt file {path}: {error}") from error
        if len(data) > MAX_BYTES:
            raise InputError(f"the prompt file {path} has {len(data)} bytes; at most {MAX_BYTES} are read")
        self.pieces = _SLOT.split(text)  # fixed words at even places, names of slots at odd ones
        self.hash = hashlib.sha256(text.encode()).hexdigest()[:16]
        filled = [SLOTS[name] for name in self.pieces[1::2]]
        if "narrative" not in filled:
            raise InputError(f"the prompt file {path} has no slot for the narrative; write {{narrative}} where it goes")
        self.reference = "reference" in filled
        self.answer = "answer" in filled

    def render(self, case: Case, narrative: Narrative, rubric: Rubric, seed: int, turn: int, pictures: bool) -> Prompt:
        """The prompt of the file for one narrative; InputError as `prompt.render`."""
        foreign = check_texts(case, narrative, self.reference)
        nonce = make_nonce(case, narrative, foreign, seed, turn, 16)
        texts = {
            "narrative": Segment(narrative.judged, True),
            "reference": Segment(case.reference.strip(), True),
            "context": Segment(case.context or "(none given)", True),
            "rubric": Segment(rubric.text()),
            "answer": Segment(answer_instructions(rubric, nonce)),
        }
        segments = tuple(
            texts[SLOTS[piece]] if place % 2 else Segment(piece) for place, piece in enumerate(self.pieces) if piece
        )
        images = tuple(image.path for image in case.images) if pictures else ()
        return Prompt(segments, images, tuple(f"{name}:" for name in rubric.names), nonce)
