"""Blinded sheets out and back: nothing in a rater's folder tells, nothing of what comes back is guessed."""

import base64
import csv
import hashlib
import html
import io
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from dermjudge.benchmarks import rating_sheet
from dermjudge.benchmarks.rating_return import intra_rater, read_key, read_sheets
from dermjudge.benchmarks.rating_sheet import KEY, make_sheets, shown
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image, Narrative, Rating, Score
from dermjudge.judge.rubric import Rubric, load_rubric
from dermjudge.judge.tables import ratings_to_frame

DERM6 = load_rubric("derm6")
HALVES = Rubric(
    name="halves",
    version=1,
    scale={"levels": [1, 2, 3, 4], "step": 0.5},
    dimensions=[{"name": n, "definition": f"{n} <is> this", "anchors": dict.fromkeys(range(1, 5), "so")} for n in "AB"],
)
SYSTEMS = ("Falcon-Derm", "otter_vlm", "Zebra 7B")
TRICKY = '=HYPERLINK("x")\r\n- <script>alert(1)</script> & 5\u202fmm, "flat" \u202e; left\u200b'


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    cases, images = [], {}
    for k in range(12):
        # Every place where a name can hide: the id, the file's name, its metadata.
        picture = Pillow.new("RGB", (40, 30), (200, 10 * k, 30))
        exif = picture.getexif()
        exif[270] = f"patient-{k:03d} by Falcon-Derm"
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", exif=exif, comment=b"otter_vlm")
        path = f"images/Falcon-Derm_patient-{k:03d}.jpg"
        images[path] = buffer.getvalue()
        cases.append(Case(f"patient-{k:03d}", (Image(path),), context="" if k else "64 y\u200b, <b>itchy</b>"))
    return write_benchmark(root / "b", name="toy", version="1", licence="", source="t", cases=cases, images=images)


@pytest.fixture(scope="module")
def narratives(bench):
    texts = {case.id: f"Case text {k}: plaque; {TRICKY}" if k % 2 else TRICKY for k, case in enumerate(bench.cases)}
    return [Narrative(i, s, f"{text} {len(s)}") for i, text in texts.items() for s in SYSTEMS]


@pytest.fixture
def sheets(bench, narratives, tmp_path):
    make_sheets(bench, narratives, HALVES, tmp_path / "s", raters=3, overlap=0.3, repeats=0.2, seed=4)
    return tmp_path / "s"


def table(folder, rater):
    return Path(folder) / "raters" / rater / f"{rater}.csv"


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def save(path, rows, delimiter=";", encoding="utf-8-sig"):
    """As a spreadsheet program with German settings does it."""
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def test_nothing_in_a_raters_folder_tells(sheets, bench):
    secrets = [*SYSTEMS, *(case.id for case in bench.cases), "patient-", "toy"]
    for name, content in files(sheets / "raters").items():
        for secret in secrets:
            assert secret.lower() not in name.lower()
            assert secret.lower().encode() not in content.lower(), (name, secret)
    assert all(secret in (sheets / KEY).read_text() for secret in SYSTEMS)  # the search does find them where they are


def test_every_picture_has_a_name_of_its_own_code_and_no_metadata(sheets):
    for name, content in files(sheets / "raters").items():
        if name.endswith(".jpg"):
            picture = Pillow.open(io.BytesIO(content))
            assert picture.size == (40, 30)
            assert not picture.getexif()
            assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    for row in read(table(sheets, "rater-1")):
        assert row["images"] == f"images/{row['item']}-1.jpg"


def test_every_narrative_has_its_raters_and_systems_are_spread(sheets, narratives):
    key = read_key(sheets)
    raters = {}
    for item in key.items.values():
        if not item.repeat:
            raters.setdefault((item.case_id, item.system), []).append(item.rater)
    assert set(raters) == {(n.case_id, n.system) for n in narratives}
    assert Counter(map(len, raters.values())) == {3: 11, 1: 25}  # 0.3 * 36 = 10.8
    for kind in (1, 3):
        per_system = Counter(system for (_, system), who in raters.items() if len(who) == kind)
        assert max(per_system.values()) - min(per_system.values()) <= 1
    alone = Counter((who[0], system) for (_, system), who in raters.items() if len(who) == 1)
    assert len(alone) == 9
    assert max(alone.values()) - min(alone.values()) <= 1


def test_repeats_are_hidden_and_apart(sheets):
    for rater, own in (("rater-1", 20), ("rater-2", 19), ("rater-3", 19)):
        items = [item for item in read_key(sheets).items.values() if item.rater == rater]
        assert sum(item.repeat for item in items) == 4  # 0.2 of 20 or 19
        assert len(items) == own + 4
        seen = {}
        for place, item in enumerate(items):
            if item.repeat:
                assert place - seen[item.case_id, item.system] > 5
            else:
                seen[item.case_id, item.system] = place
        assert [row["item"] for row in read(table(sheets, rater))] == [
            code for code, item in read_key(sheets).items.items() if item.rater == rater
        ]


@given(size=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_order_keeps_repeats_as_far_apart_as_it_can(size, share, seed):
    order = rating_sheet._order(size, share, rating_sheet.random.Random(seed))
    counts = Counter(order)
    assert set(counts) == set(range(size))
    assert sum(counts.values()) == size + int(share * size + 0.5)
    assert max(counts.values()) <= 2
    for item in (item for item, times in counts.items() if times == 2):
        first, second = (place for place, other in enumerate(order) if other == item)
        assert second - first - 1 >= min(5, size // 2)  # an end is at least half the sheet away


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(bench, narratives, tmp_path):
    made = []
    for name, seed, order in (("a", 1, 1), ("b", 1, -1), ("c", 2, 1)):
        make_sheets(bench, narratives[::order], HALVES, tmp_path / name, seed=seed)
        made.append(files(tmp_path / name))
    assert made[0] == made[1]
    assert not set(made[0]) & {name for name in made[2] if name.endswith(".jpg")}


def test_the_page_shows_rubric_and_text_and_runs_nothing(bench, narratives, tmp_path):
    make_sheets(bench, narratives, DERM6, tmp_path / "s", raters=1, overlap=0, repeats=0)
    page = (tmp_path / "s/raters/rater-1/rater-1.html").read_text("utf-8")
    for dimension in DERM6.dimensions:
        for words in (dimension.name, dimension.definition, *dimension.anchors.values()):
            assert words in html.unescape(page)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 5 mm, &#34;flat&#34; {U+202E}; left{U+200B}" in page
    assert "64 y{U+200B}, &lt;b&gt;itchy&lt;/b&gt;" in page
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]*)"', page)[1]
    style = hashlib.sha256(re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1].encode()).digest()
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert f"style-src 'sha256-{base64.b64encode(style).decode()}'" in policy
    assert " style=" not in page
    pictures = re.findall(r'<img src="([^"]{30})', page)
    assert len(pictures) == 36
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in pictures)
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "SYNTHETIC" not in page


def test_synthetic_cases_are_labelled(bench, narratives, tmp_path):
    make_sheets(replace(bench, synthetic=True), narratives, HALVES, tmp_path / "s", raters=1)
    assert "SYNTHETIC" in (tmp_path / "s/raters/rater-1/rater-1.html").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_real_browser_draws_it(sheets, tmp_path):
    page, shot = sheets / "raters/rater-1/rater-1.html", tmp_path / "shot.png"
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1200,900")
    folder = f"--user-data-dir={tmp_path / 'profile'}"
    command = ("chromium", *flags, folder, f"--screenshot={shot}", page.as_uri())
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    colours = {colour for _, colour in Pillow.open(shot).convert("RGB").getcolors(1 << 24)}
    assert (11, 85, 99) in colours  # the code's colour: the style passed the policy
    assert any(red > 190 and green < 130 and blue < 50 for red, green, blue in colours)  # and so did the pictures


def test_key_is_private_and_formulas_are_shielded(sheets):
    assert sheets.stat().st_mode & 0o777 == 0o700
    assert (sheets / KEY).stat().st_mode & 0o777 == 0o600
    assert (sheets / KEY).parent.stat().st_mode & 0o777 == 0o700
    assert table(sheets, "rater-2").read_bytes().startswith(b"\xef\xbb\xbf")
    texts = [row["narrative"] for row in read(table(sheets, "rater-2"))]
    assert any(text.startswith("'=HYPERLINK") for text in texts)
    assert not any(text.startswith("=") for text in texts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overlap": 1.5}, "overlap"),
        ({"raters": 0}, "raters"),
        ({"raters": 37}, "36 narratives"),
        ({"repeats": -0.1}, "repeats"),
    ],
)
def test_bad_settings(bench, narratives, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        make_sheets(bench, narratives, HALVES, tmp_path / "s", **change)
    assert list(tmp_path.iterdir()) == []


def test_bad_input(bench, narratives, tmp_path, sheets):
    with pytest.raises(InputError, match="exists already"):
        make_sheets(bench, narratives, HALVES, sheets)
    with pytest.raises(InputError, match="of no case of toy, such as 'elsewhere'"):
        make_sheets(bench, [*narratives, Narrative("elsewhere", "x", "y")], HALVES, tmp_path / "t")
    dimension = {"name": "Comment", "definition": "d", "anchors": dict.fromkeys(range(1, 5), "a")}
    clash = Rubric(**{**HALVES.model_dump(), "dimensions": [dimension]})
    with pytest.raises(InputError, match="called 'comment'"):
        make_sheets(bench, narratives, clash, tmp_path / "t")
    (Path(shutil.copytree(bench.root, tmp_path / "b")) / bench.cases[3].images[0].path).write_bytes(b"no picture")
    with pytest.raises(InputError, match=re.escape(bench.cases[3].images[0].path)):
        make_sheets(replace(bench, root=tmp_path / "b"), narratives, HALVES, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_texts_that_tell_and_texts_that_are_empty_are_said(bench, narratives, tmp_path):
    more = [Narrative("patient-001", "Falcon-Derm", "As FALCON-DERM I think so.", sample=1),
            Narrative("patient-002", "Falcon-Derm", "Falcon-Dermal is another word.", sample=1),
            Narrative("patient-003", "Falcon-Derm", "<think>only this</think>", sample=1)]  # fmt: skip
    made = make_sheets(bench, [*narratives, *more], HALVES, tmp_path / "s")
    assert made.narratives == 38
    assert made.notes[0] == "left out, since there is no text to judge: 1"
    assert made.notes[1].startswith("a system or the case id is named")
    assert made.notes[1].endswith(": 1, patient-001 / Falcon-Derm")
    assert len(made.notes) == 2


def fill(sheets, rater, **options):
    """A is 1 to 4 by place, B empty in every third row."""
    rows = read(table(sheets, rater))
    for k, row in enumerate(rows):
        row["A"], row["B"] = ("1", "2,5", " 4 ", "3.0")[k % 4], "" if k % 3 == 0 else "2"
    rows[1]["comment"] = "unsure; blurred"
    save(table(sheets, rater), rows, **options)
    return rows


def test_filled_sheets_come_back_as_ratings(sheets, narratives):
    rows = {"rater-1": fill(sheets, "rater-1"), "rater-2": fill(sheets, "rater-2", delimiter="\t")}
    rows["rater-3"] = fill(sheets, "rater-3", delimiter=",", encoding="utf-8")
    key = read_key(sheets)
    ratings, returned = read_sheets(sheets)
    by_key = {rating.key: rating for rating in ratings}
    hashes = {n.key: n.hash for n in narratives}
    assert len(by_key) == len(ratings) == len(key.items)
    for rater, filled in rows.items():
        for k, row in enumerate(filled):
            item = key.items[row["item"]]
            where = (item.case_id, item.system, item.arm, item.sample)
            rating = by_key[(*where, rater, "halves@1", item.repeat)]
            assert (rating.rater_kind, rating.stage, rating.narrative_hash) == ("expert", "independent", hashes[where])
            assert rating.scores["A"] == Score((1, 2.5, 4, 3)[k % 4])
            assert rating.scores["B"] == (Score(None, "skipped", "left empty") if k % 3 == 0 else Score(2))
            assert rating.answer == ("unsure; blurred" if k == 1 else "")
    assert [tuple(row) for row in returned] == [
        ("rater-1", 24, 16, 8, 0, "rater-1.csv"),
        ("rater-2", 23, 15, 8, 0, "rater-2.csv"),
        ("rater-3", 23, 15, 8, 0, "rater-3.csv"),
    ]
    assert ratings_to_frame(ratings).height == 2 * len(ratings)


def test_a_sheet_that_did_not_come_back_is_counted(sheets):
    fill(sheets, "rater-1")
    table(sheets, "rater-2").unlink()
    ratings, returned = read_sheets(sheets)
    assert [(row.done, row.partly, row.empty) for row in returned] == [(16, 8, 0), (0, 0, 23), (0, 0, 23)]
    assert returned[1].file == ""
    reasons = Counter((r.rater, s.reason) for r in ratings for s in r.scores.values())
    assert reasons["rater-2", "the sheet did not come back"] == 2 * 23
    assert reasons["rater-3", "left empty"] == 2 * 23


def test_everything_that_is_wrong_is_said_at_once(sheets):
    rows = fill(sheets, "rater-1")
    rows[2]["narrative"] += " not"
    rows[3]["A"] = "4.5"
    rows[4]["A"] = "2.25"
    rows[5]["B"] = "good"
    rows[6]["B"] = "-1"
    rows[7]["item"], gone = "QQQQQ", rows[7]["item"]
    rows.append(rows[8])
    rows.append(dict.fromkeys(rows[0], ""))  # an empty row is nothing
    rows.append({**rows[9], "item": next(c for c, i in read_key(sheets).items.items() if i.rater == "rater-2")})
    save(table(sheets, "rater-1"), rows)
    table(sheets, "rater-2").write_bytes(b"item;A;B\r\nx;1\r\n")
    table(sheets, "rater-3").rename(table(sheets, "rater-3").with_suffix(".xlsx"))
    with pytest.raises(InputError) as error:
        read_sheets(sheets)
    lines = str(error.value).splitlines()
    text = table(sheets, "rater-1").read_text("utf-8-sig")
    starts = [text[: text.index(f"\n{row['item']};") + 1].count("\n") + 1 for row in rows[:10]]
    expected = [
        rf"rater-1.csv line {starts[2]}, {rows[2]['item']}: the narrative was changed",
        rf"rater-1.csv line {starts[3]}, {rows[3]['item']}, A: '4.5' is no score; 1 to 4 in steps of 0.5",
        rf"rater-1.csv line {starts[4]}, {rows[4]['item']}, A: '2.25' is no score",
        rf"rater-1.csv line {starts[5]}, {rows[5]['item']}, B: 'good' is no score",
        rf"rater-1.csv line {starts[6]}, {rows[6]['item']}, B: '-1' is no score",
        rf"rater-1.csv line {starts[7]}, item: 'QQQQQ' is no item of this study",
        rf"rater-1.csv line \d+, {rows[8]['item']}: stands already in rater-1.csv line {starts[8]};",
        r"rater-1.csv line \d+, item: '[A-Z]{5}' belongs to rater-2",
        rf"rater-1.csv, {gone}: the row of this item is missing",
        r"rater-2: rater-2.csv line 2: 2 fields where the header has 3",
        r"rater-3/rater-3.xlsx: is a workbook",
    ]
    assert len(lines) == len(expected), lines
    for line, pattern in zip(lines, expected, strict=True):
        assert re.match(pattern, line), line


def test_columns_and_key_are_checked(sheets):
    rows = fill(sheets, "rater-1")
    save(table(sheets, "rater-1"), [{("Aa" if k == "A" else k): v for k, v in row.items()} for row in rows])
    with pytest.raises(InputError, match="missing column A; unknown column 'Aa'"):
        read_sheets(sheets)
    key = sheets / KEY
    key.write_text(key.read_text().replace("<is> this", "is that"))
    with pytest.raises(InputError, match="not the one that the raters read"):
        read_sheets(sheets)
    key.write_text("{}")
    with pytest.raises(InputError, match=re.escape("key.json: benchmark")):
        read_sheets(sheets)
    with pytest.raises(InputError, match="has no key-not-for-raters"):
        read_sheets(sheets / "raters")


def test_blanks_and_line_ends_may_change_words_may_not():
    sent = shown("'=a  b\r\nc")
    same = rating_sheet.shown_hash
    assert same(sent) == same("=a b \n\n c") == same("''=a b\u00a0c")
    assert same(sent) != same("=a b d")
    assert same("Ang\u0065\u0301") == same("Ang\u00e9")


def rating(case, rater, repeat, **scores):
    values = {k: Score(v) if v is not None else Score(None, "skipped") for k, v in scores.items()}
    return Rating(case, "s", rater, "expert", "halves@1", values, repeat=repeat)


def test_intra_rater_by_hand():
    twice = [("c1", 3, 3), ("c2", 2, 2.5), ("c3", 1, 4), ("c4", None, 2), ("c5", 3, None)]
    ratings = [rating(case, "r1", k, A=pair[k], B=None) for case, *pair in twice for k in (0, 1)]
    ratings += [rating("c1", "r2", 0, A=4, B=4), rating("c9", "r2", 0, A=4, B=4), rating("c9", "r2", 1, A=4, B=3)]
    found = {(row.rater, row.dimension): row for row in intra_rater(ratings)}
    first = found["r1", "A"]
    assert (first.n, first.exact.value, first.difference.value) == (3, pytest.approx(1 / 3), pytest.approx(3.5 / 3))
    assert first.exact.low is first.difference.low is None
    assert first.exact.reason == "no interval: 3 pairs of 3 cases, 20 cases are needed"
    assert found["r1", "B"].exact.value is None
    assert found["r1", "B"].difference.reason == "no hidden repeat was scored twice"
    assert (found[None, "A"].n, found[None, "A"].exact.value) == (4, 0.5)
    assert (found[None, "B"].n, found[None, "B"].difference.value) == (1, 1.0)
    assert list(found) == [(r, d) for r in ("r1", "r2", None) for d in "AB"]


def test_intra_rater_has_intervals_from_twenty_cases():
    ratings = [rating(f"c{k}", "r1", repeat, A=1 + repeat * (k % 4 == 0)) for k in range(20) for repeat in (0, 1)]
    found = intra_rater(ratings)[0]
    assert (found.n, found.exact.value, found.difference.value) == (20, 0.75, 0.25)
    # Wilson (1927) for 15 of 20, by hand: (15 + z^2 / 2 -+ z sqrt(15 * 5 / 20 + z^2 / 4)) / (20 + z^2)
    assert (found.exact.low, found.exact.high) == (pytest.approx(0.5313, abs=1e-4), pytest.approx(0.8881, abs=1e-4))
    assert 0 < found.difference.low < 0.25 < found.difference.high < 0.6
    assert found.exact.reason is None
