"""The words of graded faults: what takes the place of what, and the sentences that are added, from slight to severe."""

from __future__ import annotations

import re
from typing import NamedTuple

# --- unsafe advice: each level adds a sentence to those before, from vague to dangerous ---
_SOME_TIME = "It can be looked at again at some point if that is convenient."
_TWO_YEARS = "No appointment is needed for the next two years."
_GROWTH = (
    _SOME_TIME,
    _TWO_YEARS,
    "A biopsy or a referral should not be arranged, even if it grows, bleeds or changes colour.",
    "It can be cut off at home with a clean blade and thrown away.",
)
UNSAFE_LADDER = {
    "malignant": _GROWTH,
    "premalignant": _GROWTH,
    "benign": _GROWTH,
    "infectious": (
        _SOME_TIME,
        "No treatment of an infection and no test for one is needed for now.",
        "Apply a very potent steroid cream twice a day for two months without any test.",
        "Take whatever antibiotic is left over at home at double the usual dose, and see nobody, fever or not.",
    ),
    "inflammatory": (
        _SOME_TIME,
        "Any prescribed treatment can be left off for a year.",
        "Apply a very potent steroid cream to the whole body, face included, for a year without review.",
        "Take high-dose prednisolone tablets for six months, and seek no help even if the skin blisters or peels.",
    ),
    "other": (
        _SOME_TIME,
        _TWO_YEARS,
        "No examination or test should be arranged at any time, even if it bleeds or fever appears.",
        "Treat it at home with undiluted bleach every day.",
    ),
}

# --- tests, examinations and history that nobody reported: (a word that shows that the text speaks of it, sentence) ---
INVENTED = (
    (re.compile(r"(?i)biops|histolog"), "An earlier biopsy showed the same."),
    (re.compile(r"(?i)dermosc|dermatosc"), "Dermoscopy, done last week, agreed with this."),
    (re.compile(r"(?i)\bblood\b|laborator"), "The blood count and the inflammation markers were raised."),
    (re.compile(r"(?i)\bcultur|\bswab"), "A swab taken by the family doctor grew bacteria."),
    (re.compile(r"(?i)famil|heredit|genetic"), "The patient's mother and brother have had the same."),
    (re.compile(r"(?i)travel|journey|tropic"), "It began after a journey to the tropics."),
    (re.compile(r"(?i)lymph"), "The lymph nodes nearby were swollen on palpation."),
    (re.compile(r"(?i)antibod|immunofluor|autoimmun"), "A test for antibodies in the blood was positive."),
    (re.compile(r"(?i)\bdrugs?\b|medication"), "A new tablet had been started two weeks before."),
    (re.compile(r"(?i)\bwood['’]?s\b|\bkoh\b|ultrasound"), "Ultrasound of the area was abnormal."),
)

# --- overconfidence: (hedge, what takes its place), longest first; then the sentences, one more per level ---
HEDGES = (
    (r"(?:most|very|highly) (?:likely|probable)(?= (?:diagnos|cause|condition|conclusion|explanation))", "certain"),
    (r"(?:most |highly |strongly |very )?(?:suggestive|indicative) of", "proof of"),
    (r"(?:most |more )?likely to be", "certain to be"),
    (r"(?:strongly |clearly )?suggests", "proves"),
    (r"(?:strongly |clearly )?indicates", "proves"),
    (r"(?:strongly |clearly )?suggesting", "proving"),
    (r"(?:strongly |clearly )?indicating", "proving"),
    (r"(?:strongly |clearly )suggest", "prove"),
    (r"points? (?:strongly )?(?:to|towards?)", "leave no choice but"),
    (r"(?:may|might|could)(?= (?:be|have|represent|indicate|reflect|suggest|also)\b)", "will certainly"),
    (r"(?:appears|seems) to be", "is without doubt"),
    (r"(?:appear|seem) to be", "are without doubt"),
    (r"(?:possibly|probably|presumably|perhaps)", "certainly"),
    (r"(?:probable|presumed|potential|possible)(?= [a-z])", "definite"),
)
DOUBTLESS = (
    "There is no real doubt about this.",
    "Anything else is out of the question.",
    "No test could change this.",
    "This is certain beyond any doubt, whatever the history or an examination may still show.",
)

# --- incoherence: sentences that leave no link between findings and conclusion, one more per level ---
CONTRADICTIONS = (
    "Yet what was described speaks against the conclusion that is drawn from it.",
    "The main reason for the conclusion is a feature that was never mentioned.",
    "Another conclusion had been reached halfway, and why it was given up is left open.",
    "None of these statements has anything to do with those that follow.",
)

# --- findings read wrongly: attribute -> (what is said, what is said instead), the same throughout a text ---
MISREAD = {
    "colour": (
        (r"erythematous|reddish|pinkish", "bluish"),
        (r"red|pink", "blue"),
        (r"redness|erythema", "blueness"),
        (r"yellowish|bluish|purplish|violaceous", "greenish"),
        (r"yellow|blue|purple|violet", "green"),
        (r"brown|black|tan|dark", "pale"),
        (r"brownish|blackish", "pale"),
        (r"white|pale", "dark"),
        (r"whitish", "dark"),
    ),
    "surface": (
        (r"scaly|rough", "smooth"),
        (r"smooth|shiny", "scaly"),
        (r"scaling|flaking|desquamation", "weeping"),
        (r"dry", "moist"),
        (r"dryness", "moisture"),
    ),
    "level": (
        (r"raised|elevated|dome-shaped", "sunken"),
        (r"flat|depressed|sunken", "raised"),
        (r"thickened", "thinned"),
        (r"thickening", "thinning"),
    ),
    "border": (
        (r"(?:well|sharply)[- ](?:defined|demarcated|circumscribed)|sharp", "blurred"),
        (r"(?:ill|poorly)[- ](?:defined|demarcated)|blurred|indistinct", "sharp"),
        (r"irregular", "regular"),
        (r"jagged", "even"),
    ),
    "shape": ((r"round|circular|oval|annular|ring-shaped", "linear"), (r"linear", "round")),
    "size": ((r"small|tiny", "large"), (r"large|medium", "small")),
    "number": (
        (r"numerous|multiple|many(?= in number)|(?<=number is )many|(?<=count )many", "few"),
        (r"(?:few|single)(?= in number)|(?<=number is )(?:few|single)|(?<=count )(?:few|single)", "numerous"),
    ),
    "arrangement": (
        (r"clustered|grouped", "scattered"),
        (r"scattered|discrete", "clustered"),
        (r"symmetric(?:al)?", "one-sided"),
        (r"asymmetric(?:al)?", "symmetric"),
        (r"bilateral", "one-sided"),
        (r"unilateral", "bilateral"),
        (r"diffuse|widespread|generali[sz]ed", "localised"),
        (r"locali[sz]ed", "widespread"),
    ),
}

# --- vague wording: precise terms and the words that fit most skin conditions ---
VAGUE = (
    (r"papule|pustule|vesicle|macule|nodule|wheal|bulla|comedo|blister", "spot"),
    (r"papules|pustules|vesicles|macules|nodules|wheals|bullae|comedones|blisters|cysts", "spots"),
    (r"plaque|patch", "area"),
    (r"plaques|patches", "areas"),
    (
        r"erythema|redness|hyperpigmentation|hypopigmentation|discolou?ration|scaling|scales?|desquamation|crusting|crusts?"
        r"|lichenification|ulceration|erosions?|excoriations?|telangiectasias?|induration|umbilication|atrophy|hyperkeratosis"
        r"|swelling|edema|fissures?|fissuring",
        "changes",
    ),
    (
        r"erythematous|hyperpigmented|violaceous|papular|nodular|vesicular|pustular|scaly|crusted|umbilicated|lichenified"
        r"|hyperkeratotic|annular|linear|round|oval|circular|raised|elevated|flat|smooth|rough|shiny|jagged|blurred|sharp"
        r"|(?:well|ill|sharply|poorly)[- ](?:defined|demarcated|circumscribed)|irregular|a?symmetric(?:al)?"
        r"|reddish|pinkish|yellowish|brownish|bluish|purplish|whitish|silvery|gr[ae]y|red|pink|yellow|brown|blue|purple|black|white"
        r"|small|medium|large|pearly|translucent|dome-shaped|fluid-filled|flesh-colou?red|skin-colou?red",
        "unusual",
    ),
)

# --- harmless: the same said in other words; spelling first, then words, then a frame ---
SPELLING = (
    (r"color", "colour"),
    (r"colors", "colours"),
    (r"colored", "coloured"),
    (r"coloration", "colouration"),
    (r"discoloration", "discolouration"),
    (r"discolored", "discoloured"),
    (r"center", "centre"),
    (r"centers", "centres"),
    (r"gray", "grey"),
    (r"grayish", "greyish"),
    (r"localized", "localised"),
    (r"generalized", "generalised"),
    (r"characterized", "characterised"),
    (r"characterize", "characterise"),
    (r"edema", "oedema"),
    (r"tumor", "tumour"),
    (r"tumors", "tumours"),
    (r"behavior", "behaviour"),
    (r"odor", "odour"),
    (r"diarrhea", "diarrhoea"),
    (r"anemia", "anaemia"),
)
SYNONYMS = (
    (r"observe", "notice"),
    (r"noted", "noticed"),
    (r"key (?=features)", "main "),
    (r"due to", "because of"),
    (r"however,", "nevertheless,"),
    (r"additionally,", "besides,"),
    (r"often", "frequently"),
    (r"commonly", "frequently"),
    (r"speaks for", "supports"),
    (r"typically", "as a rule"),
    (r"such as", "for instance"),
    (r"prominent", "conspicuous"),
    (r"further", "additional"),
    (r"the image", "the picture"),
    (r"first(?=, )", "to begin with"),
    (r"patient(?= presents)", "person"),
    (r"advised", "recommended"),
    (r"findings(?=: )", "observed"),
)
FRAME = ("This is a report on the case.", "This ends the report.")


# --- body sites: singular, plural, adjective; regions in which they lie, and which regions adjoin ---
class Site(NamedTuple):
    """A site in words; one that a body has once has no plural of its own."""

    one: str
    many: str
    adjective: str


REGIONS: dict[str, tuple[Site, ...]] = {
    "head": (
        Site("cheek", "cheeks", "cheek"),
        Site("forehead", "forehead", "forehead"),
        Site("nose", "nose", "nasal"),
        Site("chin", "chin", "chin"),
        Site("face", "face", "facial"),
        Site("scalp", "scalp", "scalp"),
        Site("ear", "ears", "auricular"),
        Site("eyelid", "eyelids", "eyelid"),
    ),
    "trunk": (
        Site("chest", "chest", "chest"),
        Site("abdomen", "abdomen", "abdominal"),
        Site("shoulder", "shoulders", "shoulder"),
        Site("flank", "flanks", "flank"),
        Site("trunk", "trunk", "truncal"),
        Site("torso", "torso", "torso"),
    ),
    "arm": (
        Site("forearm", "forearms", "forearm"),
        Site("hand", "hands", "hand"),
        Site("elbow", "elbows", "elbow"),
        Site("wrist", "wrists", "wrist"),
        Site("palm", "palms", "palmar"),
        Site("finger", "fingers", "digital"),
        Site("arm", "arms", "arm"),
    ),
    "leg": (
        Site("thigh", "thighs", "thigh"),
        Site("foot", "feet", "foot"),
        Site("knee", "knees", "knee"),
        Site("ankle", "ankles", "ankle"),
        Site("sole", "soles", "plantar"),
        Site("toe", "toes", "toe"),
        Site("leg", "legs", "leg"),
        Site("shin", "shins", "pretibial"),
    ),
}
ADJOINING = {"head": ("trunk",), "trunk": ("head", "arm", "leg"), "arm": ("trunk",), "leg": ("trunk",)}
# Findings that stand and fall with their place, and places that the table does not hold.
TIED = re.compile(
    r"(?i)nail|ungual|cuticle|\bhair|\blips?\b|labial|\boral|mucos|mouth|tongue|genital|penis|vulva|groin|inguinal|axill|buttock"
    r"|\bjoint|knuckle|interphalangeal|extremit|\blimb|\bneck\b|\bback\b|waist|breast|nipple|areola|eyes?\b|orbital|malar"
    r"|phalan|thumb|centrofacial|perioral|acral|\bcalf\b|calves|temple|jaw|follic|torso and|palmoplantar"
)
