"""Does a text decline the task in prose? A short list of phrases in nine languages, no more than that."""

from __future__ import annotations

import re

HEAD = 400  # characters; a refusal stands at the start

_PHRASES = (
    # English: "I can't / am unable to / must decline to ... assist, evaluate, rate ..."
    r"\b(?:i|we) ?(?:can't|cannot|can not|won't|will not|am unable to|'m unable to|am not able to|'m not able to"
    r"|must decline to|(?:have|need) to decline to|must refuse to|am not comfortable|'m not comfortable)\b"
    r"[^.,;!?\n]{0,30}\b(?:assist|help|evaluat|scor|rat(?:e|ing)|assess|judg|grad|provid|giv|comply|fulfil|answer"
    r"|diagnos(?:e|ing)|interpret|review|analy|do that|do this|process)",
    r"\bunable to (?:assist|help|comply)\b",
    r"\bi must (?:decline|refuse)\b",
    # German
    r"\b(?:kann|darf|werde) [^.!?\n]{0,60}\b(?:nicht|keine)\b[^.!?\n]{0,40}"
    r"(?:helfen|bewert|beurteil|behilflich|beantwort|unterstütz|erfüllen)",
    # French
    r"\bje (?:ne (?:peux|suis)|refuse)\b[^.!?\n]{0,60}(?:aider|évalu|noter|fournir|répondre|juger|assister)",
    # Spanish, Portuguese, Italian
    r"\bno (?:puedo|podemos|me es posible)\b[^.!?\n]{0,40}(?:ayud|evalu|calific|puntu|proporcion|respond|asist)",
    r"\bnão (?:posso|consigo)\b[^.!?\n]{0,40}(?:ajud|avali|fornec|respond|auxili|atend)",
    r"\bnon posso\b[^.!?\n]{0,40}(?:aiut|valut|forni|rispond|assist)",
    # Chinese, Japanese, Korean
    r"(?:无法|不能|無法)[^。！？\n]{0,15}(?:提供|评估|评分|評估|評分|协助|協助|帮助|幫助|回答|评价|满足)",
    r"(?:評価|採点|回答|手伝い|対応|答え|提供)[^。！？\n]{0,12}(?:できません|できかねます|いたしかねます)",
    r"(?:평가|도움|도와|답변|제공|채점)[^.!?\n]{0,12}(?:수 없|드릴 수 없|어렵습니다)",
)
_REFUSAL = re.compile("|".join(_PHRASES))


def declines(text: str) -> bool:
    """Whether the first 400 characters decline to answer.

    >>> declines("I'm sorry, but I can't assist with that."), declines("I cannot see an ulcer.")
    (True, False)
    """
    return _REFUSAL.search(text[:HEAD].replace("’", "'").casefold()) is not None
