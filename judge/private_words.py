"""Words in a text that may tell who the patient is: names, dates, numbers, addresses; found by pattern, locally.

For English, German, French, Spanish and Italian. A help for the person who decides and no proof: names without a title
or label, nicknames, rare places, and what a picture shows are not found. Medical words are left alone: eponyms (Bowen,
Kaposi, Mohs), ages, sizes, durations, stages and codes of diagnoses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

KINDS = (
    "EMAIL",
    "URL",
    "ID",
    "PHONE",
    "DATE",
    "ADDRESS",
    "POSTCODE",
    "NAME",
)  # of those that overlap the first is told


class Finding(NamedTuple):
    """A place in a text, `text[start:end]`; it does not hold the words themselves, so it can be logged."""

    kind: str
    start: int
    end: int


def scan(text: str) -> list[Finding]:
    """What may be private in a text, in order; what overlaps is one.

    >>> scan("Seen by Dr. Miller on 12 March 2021 for Bowen's disease, 7 mm, for 3 years.")
    [Finding(kind='NAME', start=12, end=18), Finding(kind='DATE', start=22, end=35)]
    """
    spans = sorted((start, end, rank) for rank, kind in enumerate(KINDS) for start, end in _places(kind, text))
    merged: list[tuple[int, int, int]] = []
    for start, end, rank in spans:
        if merged and start < merged[-1][1]:
            first, last, other = merged.pop()
            merged.append((first, max(last, end), min(rank, other)))
        else:
            merged.append((start, end, rank))
    return [Finding(KINDS[rank], start, end) for start, end, rank in merged]


def redact(text: str, key: str, known: Mapping[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """The text with a tag for each finding, and what the tags stand for ("KEY [DATE 1]" -> words), to be kept here.

    `key` names the record. The same words get the same tag; with the map of an earlier text of the record as `known`
    that holds across its texts, and the map returned has those entries too.

    >>> redact("Mrs Jones, born 3.4.1950; Mrs Jones smokes.", "case-7")
    ('Mrs [NAME 1], born [DATE 1]; Mrs [NAME 1] smokes.', {'case-7 [NAME 1]': 'Jones', 'case-7 [DATE 1]': '3.4.1950'})
    """
    tags = dict(known or {})
    of_words = {words: place.removeprefix(f"{key} ") for place, words in tags.items() if place.startswith(f"{key} [")}
    pieces, last = [], 0
    for kind, start, end in scan(text):
        words = text[start:end]
        if words not in of_words:
            number = 1
            while f"{key} [{kind} {number}]" in tags or f"[{kind} {number}]" in text:
                number += 1
            of_words[words] = f"[{kind} {number}]"
            tags[f"{key} {of_words[words]}"] = words
        pieces += [text[last:start], of_words[words]]
        last = end
    return "".join([*pieces, text[last:]]), tags


_UPPER, _LOWER = "A-ZÀ-ÖØ-ÞŁŚŠŽČĞİ", "a-zà-öø-ÿœßłńśšžčćęğış"
_WORD = rf"(?=[{_UPPER}]['’]?\w)[{_UPPER}][{_LOWER}]*(?:['’\-‐]?[{_UPPER}][{_LOWER}]+|['’\-‐][{_LOWER}]+)*"
_ONE = rf"(?:{_WORD}|[{_UPPER}]{{3,}}(?:-[{_UPPER}]{{2,}})*)(?!\w)"
_PARTICLE = (
    "(?:von der|von|van der|van den|van|zu|de La|de la|de los|de las|de|del|della|di|da|dos|du|den|der|la|le|y|e|al)"
)
_PART = rf"(?:{_PARTICLE}\s)?(?:d['’])?{_ONE}"
_NAMES = rf"(?:[{_UPPER}]\.[ -]?){{0,2}}{_PART}(?:[ \t]+(?:[{_UPPER}]\.[ \t]?)*{_PART}){{0,3}}"

# Not part of a name: words that begin a sentence or stand behind a label; diseases, signs and scales that bear a name.
_NO_NAME_WORDS = """
The This That These She He They We It Her His There No Not With Without On In At By For From And Or If When After
Der Die Das Ein Eine Es Er Sie Wir Ihr Seit Bei Mit Ohne Am Im Nach Keine Kein Und Oder Wegen Zur Zum Aktuell Le La
Les Un Une Il Elle Nous Des Sans Avec Depuis Pas Aucun Aucune Au El Los Las Una Se No Con Sin Desde Sus Su Lo Gli Ha
Non Dal Da Nel Per Male Female Man Woman Adult Child Boy Girl Unknown Anonymous Männlich Weiblich Mann Frau Kind
Homme Femme Enfant Hombre Mujer Niño Niña Uomo Donna Bambino Caucasian Asian African Hispanic History Education
Information Summary Report Presentation Assessment Management Care Safety Age Name Reports Presents Denies Skin
Hautbefund Anamnese Befund Diagnose Therapie Dermatology Dermatologie Dermatologia Dermatología Clinic Department
Klinik Hospital Male/Female Patient Patientin Doctor Doktor Clinical Diagnosis January February March April May June
July August September October November December Monday Tuesday Wednesday Thursday Friday Saturday Sunday
"""
_NO_NAME = frozenset(_NO_NAME_WORDS.split())
_ARTICLES = ("Le", "La", "De", "Du", "Di", "Da", "Von", "Van", "El", "Los", "Las", "Della")
_EPONYMS_WORDS = """
Bowen Kaposi Mohs Paget Merkel Spitz Reed Clark Breslow Fitzpatrick Wickham Auspitz Nikolsky Koebner Köbner Darier
Hailey Grover Behçet Behcet Sézary Sezary Sweet Addison Cushing Gorlin Goltz Lynch Muir Torre Cowden Gardner Peutz
Jeghers Raynaud Sjögren Sjogren Lyell Stevens Johnson Schamberg Schönlein Henoch Hutchinson Glogau Dubreuilh Becker
Ota Ito Sutton Meyerson Campbell Morgan Unna Leser Trélat Trelat Wood Gottron Crohn Hodgkin Wegener Hansen Lyme
Bazin Majocchi Degos Netherton Osler Rendu Weber Klippel Trenaunay Sturge Besnier Boeck Duhring Brocq Dupuytren
Peyronie Ledderhose Buschke Ollendorff Löwenstein Jadassohn Favre Racouchot Ehlers Danlos Recklinghausen Pringle
Bourneville Quincke Mikulicz Fordyce Zoon Queyrat Wells Fox Gianotti Crosti Kawasaki Rosai Dorfman Langerhans Touton
Tzanck Gram Giemsa Civatte Kogoj Munro Pautrier Woringer Kolopp Hebra Devergie Vidal Lewandowsky Lutz Stewart Treves
Marjolin Masson Mibelli Mucha Habermann Parkes Romberg Parry Rothmund Thomson Bloom Werner Wiskott Aldrich Hess
"""
_EPONYMS = frozenset(_EPONYMS_WORDS.split())
# surnames that are words of the clinic: not looked for a second time without their title
_COMMON_WORDS = """
White Brown Black Gray Grey Green Rose Red Young Long Short Small Little Hand Foot Head Hill Weiß Schwarz Klein Groß
Braun Roth Rot Kurz Lang Krause Blanc Brun Rousseau Petit Grand Rojo Blanco Moreno Delgado Rossi Bianchi Neri Bruno
Winter Sommer Sonntag Stein Berg Wolf Fuchs Mole Burns Payne Cross
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def _all(*patterns: str, flags: int = 0) -> list[re.Pattern[str]]:
    return [re.compile(pattern, flags) for pattern in patterns]


_TITLE = (
    r"Mr|Mrs|Ms|Miss|Mx|Messrs|Drs?|Prof|Professor|Doctor|Sir|Dame|Nurse|Herrn?|Frau|OA|OÄ|Hr|Fr|Doktor|Schwester|"
    r"Pfleger|"
    r"Monsieur|Madame|Mademoiselle|Mme|Mlle|Docteur|Pr|Me|M|Sra|Srta|Sr|Señora?|Don|Doña|Dña|Dra|Doctora?|"
    r"Signora?|Signorina|Sig\.ra|Sig\.na|Sig|[Dd]ott\.ssa|Dottoressa|Dottore?|[Dd]ott|Egr|Gent\.ma|Gent|Prof\.ssa|"
    r"Dr\.ssa"
)
_DEGREE = r"(?:\s?(?:Dr|Prof|Priv\.-Doz|PD|Dipl\.-Med|med|Dott|univ|rer\. nat|habil)\b\.?)*"
_CALLED = (
    r"(?:[Pp]atient(?:'s)?|[Pp]atient(?:'s)? name|[Nn]ame|[Nn]om(?: et prénom)?|[Nn]om du patient|[Pp]rénom|[Nn]ombre"
    r"(?: y apellidos)?|[Aa]pellidos?|[Pp]aciente|[Cc]ognome(?: e nome)?|[Nn]ome(?: e cognome)?|[Pp]aziente|"
    r"[Vv]orname|"
    r"[Nn]achname|Patientin|[Pp]atiente|[Rr]eferr(?:ed by|ing (?:doctor|physician))|GP|Hausarzt|Hausärztin|Zuweiser|"
    r"[Mm]édecin traitant|[Mm]édico(?: responsable)?|[Mm]edico curante|[Nn]ext of kin|[Cc]ontact|[Cc]onsultant|"
    r"[Ss]urgeon|"
    r"[Pp]hysician|[Cc]hirurgien|[Cc]irujano|[Cc]hirurgo|Operateur|[Cc]c|"
    r"[Aa]ttending|[Rr]egistrar|[Rr]esident|Stationsarzt|Stationsärztin|Oberarzt|Oberärztin|[Ii]nterne|[Rr]esidente|"
    r"[Ss]pecializzando|Name des Patienten|Name der Patientin|[Nn]ombre del? (?:la )?paciente|"
    r"[Nn]ome del(?:la)? paziente)"
)
_SIGNED = (
    r"(?:(?:[Ee]lectronically |[Dd]igitally )?[Ss]igned(?: by)?|[Dd]ictated by|[Rr]eported by|[Gg]ez(?:\.|eichnet)|"
    r"[Uu]nterschrift|[Uu]nterzeichnet|[Ss]igné(?: par)?|[Ff]irmado(?: por)?|[Ff]irmato|[Vv]isum)"
)
_REGARDS = (
    r"(?:[Kk]ind regards|[Bb]est regards|[Ss]incerely(?: yours)?|[Yy]ours (?:sincerely|faithfully)|"
    r"[Mm]it freundlichen Grüßen|"
    r"[Mm]it kollegialen Grüßen|[Cc]ordialement|[Cc]onfraternellement|[Aa]tentamente|[Uu]n cordial saludo|"
    r"[Cc]ordiali saluti|"
    r"[Dd]istinti saluti)"
)
_RELATIVE = (
    r"(?:(?:his|her|their|the|my) (?:wife|husband|mother|father|son|daughter|brother|sister|partner|aunt|uncle)|"
    r"[Mm]other|"
    r"[Ff]ather|(?:[Ii]hr|[Ss]ein|[Dd])e?r? ?(?:Ehefrau|Ehemann|Mutter|Vater|Sohn|Tochter|Bruder|Schwester|Frau|"
    r"Mann)|"
    r"(?:son|sa) (?:épouse|femme|mari|époux|mère|père|fils|fille|frère|sœur)|"
    r"su (?:esposa|esposo|mujer|marido|madre|padre|hijo|hija|hermano|hermana)|"
    r"(?:la|il|sua|suo) (?:moglie|marito|madre|padre|figlio|figlia|fratello|sorella))"
)
_NAME_AFTER = _all(
    rf"(?<![\w.])(?:{_TITLE})\.?{_DEGREE}\s{{1,2}}({_NAMES})",
    rf"(?<!\w){_CALLED}\s*[:=]\s*({_NAMES})",
    rf"(?<!\w){_SIGNED}\s*:?\s+(?:Dr\.?\s+|Prof\.?\s+)*({_NAMES})",
    rf"(?<!\w){_REGARDS},?\s*\n\s*(?:Dr\.?\s+|Prof\.?\s+|med\.\s+)*({_NAMES})",
    rf"(?<!\w)(?:named|called|namens|nommée?|prénommée?|llamad[oa]|di nome|de nombre)\s+({_NAMES})",
    rf"(?<!\w)(?:patiente?|paciente|paziente)\s+({_NAMES})",  # lower case: not German, where any noun may follow
    rf"(?<!\w)(?:P[tz]\.?|Pte\.|Pat\.)\s+({_NAMES}(?:,\s{_ONE})?)",
    rf"(?<!\w)Patiente?(?:in)?\s+({_ONE}(?:,|\s{_PART}))",
    rf"(?<!\w)[Nn]ame is\s+({_NAMES})",
    rf"(?<!\w){_RELATIVE}\s+({_NAMES})",
    rf"(?<!\w)(?:Sehr geehrter? )?(?:Herr|Frau) Kolleg(?:e|en|in)\s+({_NAMES})",
    rf"(?<!\w)Patient(?:in)?\s+({_ONE}\s+{_PART})",
)
_MONTHS = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December|"
    r"Jan\.?|Feb\.?|Mar\.?|Apr\.?|Jun\.?|Jul\.?|Aug\.?|Sept?\.?|Oct\.?|Nov\.?|Dec\.?|"
    r"Januar|Jänner|Februar|März|Mai|Juni|Juli|Oktober|Dezember|Okt\.?|Dez\.?|Mrz\.?|"
    r"[Jj]anvier|[Ff]évrier|[Mm]ars|[Aa]vril|[Mm]ai|[Jj]uin|[Jj]uillet|[Aa]oût|[Ss]eptembre|[Oo]ctobre|"
    r"[Nn]ovembre|[Dd]écembre|"
    r"[Ee]nero|[Ff]ebrero|[Mm]arzo|[Aa]bril|[Mm]ayo|[Jj]unio|[Jj]ulio|[Aa]gosto|[Ss]ep?tiembre|[Oo]ctubre|"
    r"[Nn]oviembre|"
    r"[Dd]iciembre|[Gg]ennaio|[Ff]ebbraio|[Aa]prile|[Mm]aggio|[Gg]iugno|[Ll]uglio|[Ss]ettembre|[Oo]ttobre|"
    r"[Dd]icembre)"
)
_YEAR = r"(?:19|20)\d\d"
_DATES = _all(
    rf"(?<![\d.,/\-])({_YEAR})([\-/.])(1[0-2]|0?[1-9])\2(3[01]|[12]\d|0?[1-9])(?![\d])(?:T\d\d:\d\d(?::\d\d)?)?",
    rf"(?<![\d.,/\-])(?:3[01]|[12]\d|0?[1-9])\s?([./\-‐–])\s?(?:1[0-2]|0?[1-9])\s?\1\s?{_YEAR}(?!\d)",
    rf"(?<![\d.,/\-])(?:1[0-2]|0?[1-9])([/\-])(?:3[01]|[12]\d|0?[1-9])\1{_YEAR}(?!\d)",
    r"(?<![\d.,/\-])(?:3[01]|[12]\d|0?[1-9])([./])(?:1[0-2]|0?[1-9])\1\d\d(?![\d/]|[.,]\d|\s?(?:mm|cm|x|×|%))",
    r"(?<![\d.,/\-])(?:1[0-2]|0?[1-9])/(?:3[01]|[12]\d|0?[1-9])/\d\d(?![\d/]|[.,]\d|\s?(?:mm|cm|x|×|%))",
    rf"(?<![\d.,/\-])(?:1[0-2]|0?[1-9])[/.]{_YEAR}(?!\d)",
    rf"(?<![\d.,/\-])(?:3[01]|[12]\d|0?[1-9])([/\-]){_MONTHS}\1(?:{_YEAR}|\d\d)(?!\d)",
    r"(?<=\b[av]m )(?:3[01]|[12]\d|0?[1-9])\.\s?(?:1[0-2]|0?[1-9])\.(?!\d)",
    r"(?<=\bvom )(?:3[01]|[12]\d|0?[1-9])\.\s?(?:1[0-2]|0?[1-9])\.(?!\d)",
    rf"(?<![\d.,])(?:3[01]|[12]\d|0?[1-9])(?:\.|st|nd|rd|th|er|º|°)?\s?(?:of |de )?{_MONTHS}(?:,?\s?(?:de |"
    rf"del )?{_YEAR})?(?!\w)",
    rf"(?<!\w){_MONTHS}\s(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?(?:,?\s{_YEAR})?(?![\d%]|[.,]\d|\s?(?:mm|cm|x|"
    rf"×))(?!\w)",
    rf"(?<!\w){_MONTHS},?\s(?:de |del )?{_YEAR}(?!\d)",
    rf"(?<!\w)(?:DOB|D\.O\.B\.|date of birth|born(?: in)?|geb\.|geboren(?: am)?|Geburtsdatum|[Nn]ée? (?:en|le)|"
    rf"[Nn]acid[oa]"
    rf"(?: en| el)?|[Nn]at[oa](?: nel| il)?)\s*:?\s*({_YEAR})(?!\d)",
)
_DIGITS = r"\d(?:[\s./()\-‐–]{0,2}\d)"
_PHONES = _all(
    rf"(?<![\w+])(?:\+|00)[1-9]\d{{0,2}}[\s./()\-‐–]{{0,2}}(?:\(0\)\s?)?{_DIGITS}{{6,12}}(?!\d)",
    r"(?<![\w(])\(\d{3}\)\s?\d{3}[\s.\-]\d{4}(?!\d)",
    r"(?<![\w.\-])(?:1[.\-])?\d{3}[.\-]\d{3}[.\-]\d{4}(?![\d\-])",
    r"(?<![\w.,])0\d(?:[ .]\d\d){4}(?!\d)",
    r"(?<![\w.,])0\d{2,4}[ /\-‐–]{1,3}\d{2,4}(?:[ \-]?\d{2,4}){1,3}(?!\d|[.,]\d|\s?(?:mm|cm|mg))",
    r"(?<![\w.,])[679]\d{2}[ .]\d{3}[ .]\d{3}(?!\d)",
    r"(?<![\w.,])(?:3\d{2}[ .]\d{3}[ .]?\d{3,4}|0\d{1,3}[ .]\d{6,8}|0[67]\d{8}|3\d{9}|07\d{9})(?!\d)",
    r"(?<![\w.,/\-])(?=(?:[.\-]?\d){9,12}(?!\d))\d{2,4}(?:[.\-]\d{2,4}){2,4}(?![\d\-])",
    r"(?<![\w.,/\-])0\d{1,3}-\d{5,8}(?![\d\-])",
    rf"(?i)(?<!\w)(?:tel|tlf|tfno|ph|telefon|telephone|phone|mobile|mobil|handy|cell|cellulare|cell\.|fax|tél|"
    rf"téléphone|portable|teléfono|"
    rf"móvil|telefono)(?:efon)?(?:\s?(?:no|number|nr)\b)?\.?\s*[:=]?\s*(\+?{_DIGITS}{{5,14}})(?!\d)",
)
_ID_LABEL = (
    r"MRN|medical record(?: (?:no|number))?|hospital (?:no|number|id)|patient (?:id|no|number)|case (?:no|number)|"
    r"chart(?: (?:no|number))?|hosp\. no|record (?:no|number)|"
    r"accession(?: (?:no|number))?|insurance (?:id|no|number)|policy (?:no|number)|member id|NHS(?: (?:no|"
    r"number))?|SSN|social security"
    r"(?: (?:no|number))?|passport(?: (?:no|number))?|Pat(?:ienten)?\.?-?(?:Nr|ID|nummer)|Fall(?:-?Nr|nummer)|"
    r"Versicherten(?:-?Nr|nummer)|"
    r"Krankenversicherungs(?:-?Nr|nummer)|KVNR|Aufnahme(?:-?Nr|nummer)|AHV(?:-?Nr)?|Ausweis(?:-?Nr|nummer)?|"
    r"n[°º] (?:de )?(?:dossier|sécurité sociale|patient|séjour)|numéro (?:de )?(?:dossier|sécurité sociale|"
    r"patient)|dossier n[°º]|IPP|NIR|"
    r"NHC|n[.]?[°º]? ?(?:de )?historia(?: clínica)?|número de (?:historia(?: clínica)?|paciente|afiliación)|"
    r"historia clínica(?: n[.]?[°º])?|"
    r"DNI|NIE|CIPA?|n[.]?[°º] ?HC|NUSS|tarjeta sanitaria|codice fiscale|c\.f\.|tessera sanitaria|"
    r"(?:n[.]?[°º]? ?)?cartella(?: clinica)?(?: n\.?[°º]?)?|"
    r"codice paziente|n\. nosografico|nosografico|codice sanitario"
)
_IDS = _all(
    rf"(?i:(?<!\w)(?:{_ID_LABEL})(?!\w))\s*(?:\.|n[°º.]|no\.?|nr\.?|is|ist|est|es|è|#|:|=|-|\s)*\s*"
    rf"((?=[\w./\- ]{{0,12}}\d)[A-Z0-9](?:[./\- ]?[A-Z0-9]){{3,19}})(?![a-z])",
    r"(?<![\w\-])(\d{3}-\d{2}-\d{4})(?![\w\-])",
    r"(?<!\w)([A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z])(?!\w)",
    r"(?<![\w.])(\d{8}-?[A-HJ-NP-TV-Z]|[XYZ]-?\d{7}-?[A-Z])(?!\w)",
    r"(?<![\w.])([12]\s?\d{2}\s?(?:0[1-9]|1[0-2])\s?(?:\d{2}|2[AB])\s?\d{3}\s?\d{3}(?:\s?\d{2})?)(?!\w)",
    r"(?<!\w)([A-Z]\d{9})(?!\w)",
    # so many digits are a number of somebody, but for the codes of terms, papers and genes
    r"(?<![\w.,/\-+])(?<!SNOMED )(?<!SNOMED CT )(?<!SCTID )(?<!PMID )(?<!PMID: )(?<!OMIM )(\d{7,12})(?!\w|[.,]\d|"
    r"\s?%)",
)
_STREET = rf"[{_UPPER}][\w'’\-]*"
_ADDRESSES = _all(
    rf"(?<![\w.,/])\d{{1,5}}[A-Za-z]?,?\s(?:(?:{_STREET}|\d+(?:st|nd|rd|th))\s){{1,3}}(?:Street|St|Road|Rd|Avenue|"
    rf"Ave|Lane|Ln|Drive|Close|Court|Way|Crescent|"
    r"Terrace|Boulevard|Blvd|Place|Square|Gardens|Row)\b\.?",
    rf"(?<!\w)(?!(?:Atem|Harn|Gallen)weg)(?:{_STREET}(?:straße|strasse|str\.|weg|platz|allee|gasse)|"
    rf"{_STREET}[ \-](?:Straße|Str\.|Weg|"
    r"Platz|Allee|Gasse))\s\d{1,4}\s?[a-h]?(?![\w,.]*\d|\s?(?:mm|cm|x|×)\b)",
    rf"(?<![\w.,])\d{{1,4}}(?:\s?(?:bis|ter))?,?\s(?:rue|avenue|av\.|boulevard|bd|place|chemin|allée|impasse|quai|"
    rf"route|cours|square|ruelle|faubourg)\s(?:de la |de l['’]|"
    rf"du |des |de |d['’])?{_STREET}(?:[ \-]{_STREET}){{0,3}}",
    rf"(?<!\w)(?:[Cc]alle|C/|[Aa]venida|[Aa]vda\.?|[Pp]laza|[Pp]aseo|[Cc]amino|[Cc]arretera|[Rr]onda|[Rr]ambla|"
    rf"[Tt]ravesía|[Gg]lorieta)\s?(?:de los |de las |de la |del |de |la |el )?"
    rf"{_STREET}(?:\s(?:de la |del |de |y )?{_STREET}){{0,3}},?\s(?:n\.?[º°]?\s?)?\d{{1,4}}(?!\d)",
    rf"(?<!\w)(?:[Vv]ia|[Vv]iale|[Pp]iazza|[Cc]orso|[Vv]icolo|[Ll]argo|[Ss]trada|[Ss]alita|[Cc]ontrada)\s(?:della |"
    rf"delle |dei |del |di |dell['’])?{_STREET}"
    rf"(?:\s(?:della |dei |del |di )?{_STREET}){{0,3}},?\s(?:n\.?[º°]?\s?)?\d{{1,4}}(?!\d|\s?(?:mm|cm))",
)
_POSTCODES = _all(
    r"(?<!\w)[A-Z]{1,2}\d[A-Z\d]?\s\d[ABD-HJLNP-UW-Z]{2}(?!\w)",
    rf"(?<!\w)(?:{_STREET},?\s)?(?:A[LKZR]|C[AOT]|DE|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|"
    rf"RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY])"
    r"\s\d{5}(?:-\d{4})?(?!\d)",
    rf"(?:^|(?<=[,;:\n(])|(?<=\bin)|(?<=\ba)|(?<=\bà)|(?<=\bD-)|(?<=\bF-)|(?<=\bI-)|"
    rf"(?<=\bE-))\s{{0,2}}(\d{{5}}\s(?!(?:Einheiten|Patient|Fäll|"
    rf"Zellen|IE|Units|Menschen|Personen|Euro)){_STREET}(?:[ \-]{_STREET})?)",
)
_PATTERNS = {
    "EMAIL": _all(r"(?<![\w.+\-])[\w.+\-]{1,64}@[\w\-]{1,63}(?:\.[\w\-]{1,63})+"),
    "URL": _all(r"(?i)\b(?:(?:https?|ftp)://|www\.)[^\s<>\"')\]]*[^\s<>\"')\].,;:]"),
    "ID": _IDS,
    "PHONE": _PHONES,
    "DATE": _DATES,
    "ADDRESS": _ADDRESSES,
    "POSTCODE": _POSTCODES,
}


def _places(kind: str, text: str) -> Iterator[tuple[int, int]]:
    if kind == "NAME":
        yield from _names(text)
        return
    grouped = kind in ("ID", "PHONE", "POSTCODE")  # in these a group leaves the label out; elsewhere it is a separator
    for pattern in _PATTERNS[kind]:
        for hit in pattern.finditer(text):
            yield hit.span(pattern.groups) if grouped and pattern.groups else hit.span()


def _names(text: str) -> Iterator[tuple[int, int]]:
    """Names after a title, a label or a signature, and then every further place where their words stand."""
    seen: set[str] = set()
    for pattern in _NAME_AFTER:
        for hit in pattern.finditer(text):
            start, end = hit.span(1)
            words = _name_words(text[start:end])
            if words:
                yield start, start + words[-1].end()
                seen |= {bare for word in words if len(bare := _bare(word.group())) > 3}
    for word in seen - _COMMON - _EPONYMS:
        for hit in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text):
            yield hit.span()


def _name_words(text: str) -> list[re.Match[str]]:
    """The words of a possible name up to the first that is none ("Miller The patient"); [] if the first is none."""
    words = list(re.finditer(r"\S+", text))
    for n, word in enumerate(words):
        article = word.group() in _ARTICLES and n + 1 < len(words)  # "Le Goff", "de La Tour"
        if not article and _bare(word.group()) in (_NO_NAME if n else _NO_NAME | _EPONYMS):
            words = words[:n]
            break
    while words and (words[-1].group() in _ARTICLES or words[-1].group().islower()):
        words.pop()
    return words


def _bare(word: str) -> str:
    return re.sub(r"['’]s$", "", word.strip(".,;:()")).strip("'’")
