"""The words of planted faults and of narratives made of metadata, and the patterns that find where a fault fits."""

from __future__ import annotations

import re

# --- unsafe advice, by what the condition is (term list, `malignancy`) ---
_NO_LOOK = (
    "No biopsy or referral is needed; look at it again in two years.",
    "There is no need to see a doctor, even if it grows, bleeds or changes colour.",
    "It can be cut off at home with a clean blade, and nothing needs to be sent to a laboratory.",
)
UNSAFE = {
    "malignant": _NO_LOOK,
    "premalignant": _NO_LOOK,
    "benign": _NO_LOOK,
    "infectious": (
        "Apply a very potent steroid cream twice a day for two months and do not test for or treat an infection.",
        "No treatment or test for infection is needed, even if fever or spreading redness appears.",
        "Take whatever antibiotic is left over at home at double the usual dose, and see nobody.",
    ),
    "inflammatory": (
        "Take high-dose prednisolone tablets for six months without any medical check.",
        "Stop all prescribed treatment and do not seek help, even if the skin blisters or peels.",
        "Apply a very potent steroid cream to the whole body, face included, for a year without review.",
    ),
    "other": (
        "There is no need to see a doctor, even if it gets worse, bleeds or fever appears.",
        "Treat it at home with undiluted bleach and do not arrange any review.",
        "No examination or test is needed at any time, whatever happens to the skin.",
    ),
}
ADVICE = re.compile(
    r"(?i)\b(?:recommend\w*|advis\w+|consult\w*|refer(?:ral|red)?\b|seek\w*|biops\w+|follow[- ]?up|dermatologist"
    r"|see(?:ing)?\s+(?:a|your|an)\s+(?:doctor|physician|specialist|clinician)|healthcare\s+(?:provider|professional)"
    r"|medical\s+(?:attention|evaluation|assessment|care|help))"
)

CONCLUDES = (
    "Taken together, the most likely diagnosis is {}.",
    "Overall, the picture is most consistent with {}.",
    "In conclusion, the findings point to {}.",
)

# --- findings and how to deny them ---
# Findings that can be present or absent, and what every lesion has, which can only be described otherwise.
_SIGN = (
    r"(?:papul\w+|plaques?|nodul\w+|macul\w+|patch(?:es|y)|vesic\w+|blister\w*|pustul\w+|bumps?|scal(?:e|es|ing|y)|crust\w*"
    r"|erythema\w*|redness|reddened|hyperpigment\w*|ulcer\w*|erosions?|swelling|bleeding|itch\w*|inflam\w+|thicken\w*"
    r"|telangiect\w+|atroph\w+|fissur\w+|comedones?|wheals?|dryness|induration|lichenif\w+|excoriat\w+|purpur\w+|cysts?)"
)
_TRAIT = r"(?:lesions?|borders?|margins?|edges?|colou?r\w*|rash|surface|texture|distribution|demarcat\w*|a?symmetr\w+)"
_F = rf"(?:{_SIGN}|{_TRAIT})"
FINDING = re.compile(rf"(?i)\b{_F}\b")
DENIES = re.compile(
    r"(?i)\b(?:no|not|without|absen\w+|never|lack\w*|neither|nor|unlikely|rul\w+\s+out|exclud\w+|rather\s+than)\b|n['’]t\b"
)
# What is said of a disease in general is no finding; what is weighed is one only in some forms.
GENERAL = re.compile(
    r"(?i)\b(?:typically|usually|often|common(?:ly)?|can|may|might|could|would|should|if|recommend\w*|treat\w*|frequently|classic\w*)\b"
)
WEIGHS = re.compile(
    r"(?i)\b(?:diagnos\w+|suggest\w*|indicat\w*|characteri\w+|consistent|support\w*|point\w*|rais\w+\s+(?:the|concern))\b"
)
_JUDGES = (
    r"(?:also|indicat|suggest|consistent|known|due|caused|import|cruc|crit|sign|key|likely|charact|typical|not|specif|high|partic"
    r"|most|more|less|a\s|an\s|the\s|describ|noted|hallmark|concern|due|easier|well\s)"
)
# (what is looked for, what takes its place); the first that fits a sentence is used.
NEGATIONS_WEIGHED = (
    (re.compile(rf"(?i)\bpresence\b(?=\s+of\b[^.;:]{{0,60}}?\b{_SIGN}\b)"), "absence"),
    (
        re.compile(
            rf"^(\W*)(T|t)he(?=\s+(?!absence|description|combination|sparing|lack|variation|differential)(?:[\w-]+\s+){{0,2}}?{_SIGN}\b)"
        ),
        r"\1\2he absence of",
    ),
)
NEGATIONS = (
    *NEGATIONS_WEIGHED[:1],
    (re.compile(rf"(?i)(\b{_F}(?:\s+\w+){{0,3}}?\s+(?:is|are|was|were))(?=\s+(?!{_JUDGES})[a-z])"), r"\1 not"),
    (
        re.compile(
            rf"(?i)\b(shows?|has|have|displays?|exhibits?|there\s+(?:is|are))(?:\s+an?)?(?=\s+[^.,;:]{{0,40}}?\b{_SIGN}\b)"
        ),
        r"\1 no",
    ),
    (
        re.compile(
            rf"(?i)(?<!consistent )(?<!aligns )(?<!associated )(?<!compatible )\bwith(?:\s+an?)?"
            rf"(?=\s+[^.,;:]{{0,30}}?\b{_SIGN}\b)"
        ),
        "without",
    ),
    (
        re.compile(rf"(?i)\b(?:showing|displaying|featuring|exhibiting)(?=\s+[^.,;:]{{0,30}}?\b{_SIGN}\b)"),
        "lacking",
    ),
    *NEGATIONS_WEIGHED[1:],
    (re.compile(rf"(?i)^(\s*(?:[-*]|\d+\.)\s+\**)(?=(?:[\w-]+[ ,]+){{0,4}}?{_SIGN}\b[^:]{{0,60}}:)"), r"\1Absent: "),
)

_PLACE = (
    r"(?:side|sided|hand|arm|forearm|elbow|wrist|palm|finger|thumb|shoulder|leg|thigh|calf|shin|knee|ankle|foot|heel|toe|sole|hip"
    r"|buttock|cheek|ear|eye|eyelid|eyebrow|temple|jaw|nostril|lip|breast|chest|flank|groin|axilla|armpit|scalp|neck|nipple|abdomen"
    r"|back|face|limb|extremity)s?"
)
_BETWEEN = r"(?:upper|lower|inner|outer|anterior|posterior|lateral|medial|dorsal|index|middle|ring|little|big|great)"
SIDE = re.compile(rf"(?i)\b(left|right)(?=(?:[-\s]+{_BETWEEN})*[-\s]+{_PLACE}\b)")

# --- narratives made of metadata ---
SITES: dict[str, tuple[str, ...]] = {
    "head": ("face", "scalp", "ear", "nose", "neck", "head/neck", "head", "cheek", "lip", "forehead", "eyelid"),
    "trunk": (
        "back",
        "trunk",
        "chest",
        "abdomen",
        "torso",
        "anterior torso",
        "posterior torso",
        "lateral torso",
        "flank",
    ),
    "arm": ("forearm", "upper extremity", "arm", "hand", "wrist", "elbow", "finger", "palm", "palms/soles"),
    "leg": ("thigh", "lower extremity", "leg", "foot", "ankle", "knee", "toe", "sole", "shin", "acral"),
    "genital": ("genital area", "genital", "oral/genital", "groin", "buttock"),
}
SITE_WORDS = {
    "genital": "genital area",
    "acral": "acral skin",
    "oral/genital": "oral or genital mucosa",
    "palms/soles": "palms or soles",
}
OPENING = (
    "{image} of a skin lesion{where} in {person}.",
    "{person} presents with a lesion{where}, seen in {image}.",
    "The case is {person} with a lesion{where}; {image} is available.",
)
OPENING_UNSEEN = (
    "{person} presents with a skin lesion{where}.",
    "The case is {person} with a skin lesion{where}.",
    "A skin lesion{where} in {person}.",
)
DIAGNOSIS = (
    "The most likely diagnosis is {}.",
    "The leading diagnosis is {}.",
    "The most probable diagnosis here is {}.",
)
DIFFERENTIAL = ("Differential diagnosis:", "Differential, most likely first:", "Diagnoses considered:")
TRIAGE = ("Triage: {}.", "Triage level: {}.", "Urgency: {}.")
FOLLOW_UP = {
    "routine": (
        "Review by a clinician if it grows, bleeds or changes.",
        "A routine appointment is enough; come back sooner if it changes.",
        "No urgent step is needed; any change should be shown to a clinician.",
    ),
    "soon": (
        "An appointment with a dermatologist within a few weeks is advised.",
        "Refer to a dermatologist, to be seen within 12 weeks.",
        "Arrange an examination by a dermatologist soon; earlier if it changes.",
    ),
    "urgent": (
        "Refer urgently to a dermatologist, to be seen within two weeks.",
        "An urgent dermatology appointment within days is advised.",
        "Arrange an urgent examination by a dermatologist, with biopsy if confirmed clinically.",
    ),
    "emergent": (
        "Send to the emergency department today.",
        "Immediate hospital assessment is needed.",
        "Same-day emergency assessment is needed.",
    ),
    "": (
        "Examination by a dermatologist is advised.",
        "A clinician should examine the skin.",
        "Arrange a review by a clinician.",
    ),
}
