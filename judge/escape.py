"""Foreign text (names, ids, model output) made safe to show on one line: nothing hidden, nothing active.

CSV cells that a spreadsheet would take for a formula are `tablefile.write_frame`'s business.
"""

from __future__ import annotations

import re
import unicodedata

# Drawn as nothing or as a blank although their category says letter or mark (Unicode: Default_Ignorable_Code_Point).
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_MARKUP = re.compile(r"[\\`*\[\]<>|~&$]")
_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # inside a word it is a plain character
_ADDRESS = re.compile(r"(?i):(?=//)|(?<=www)\.|(?<=mailto):|(?<=xmpp):")
_AT = re.compile(r"(?<![A-Za-z0-9@])@+|@+(?=[\w\\-]+\.)")  # a mention, a mail address: a backslash stops neither
_CLOSING = re.compile(r"(?<= )#(?=#*$)")  # signs at the end of a heading would go
_BLOCK_START = re.compile(r"^(?:[#+\-=:]|\d{1,9}[.)](?= |$))")


def visible(text: str) -> str:
    """The text on one line with every character that cannot be seen as itself written as {U+XXXX}.

    That is: control and line-break characters, direction and zero-width marks, blanks other than the space, private,
    unassigned and lone surrogate code points, variation selectors. The result can always be encoded as UTF-8.

    >>> visible("gpt\\u202e4\\n")
    'gpt{U+202E}4{U+000A}'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"{{U+{ord(c):04X}}}" if _hidden(c) else c for c in text)


def _hidden(character: str) -> bool:
    if character == " ":
        return False
    if unicodedata.category(character)[0] in "CZ" or character in _BLANK:
        return True
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


def escape_markdown(text: str) -> str:
    """`visible` text that Markdown (CommonMark and GitHub's) shows letter by letter, in a line or in a table cell.

    No emphasis, code, link, picture, address, HTML, mathematics, table cell, heading or list comes of it. Blanks at
    the ends are dropped, as Markdown would. Only what would act is escaped, so the source stays readable.

    >>> escape_markdown("gpt-4o|<b>")
    'gpt-4o\\\\|\\\\<b\\\\>'
    """
    text = _CLOSING.sub(r"\\\g<0>", _MARKUP.sub(r"\\\g<0>", visible(text).strip(" ")))
    text = _UNDERSCORE.sub(r"\\_", text)
    text = _AT.sub(r"`\g<0>`", _ADDRESS.sub(r"\\\g<0>", text))
    return plain_start(text)


def plain_start(line: str) -> str:
    """A line of Markdown that opens no heading, list or underline, as a wrapped line of foreign text might.

    >>> print(plain_start("# of cases"), plain_start("1. case"), plain_start("1.5"))
    \\# of cases 1\\. case 1.5
    """
    start = _BLOCK_START.match(line)
    return f"{line[: start.end() - 1]}\\{line[start.end() - 1 :]}" if start else line
