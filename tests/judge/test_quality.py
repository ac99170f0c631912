"""Image quality: analytic values, the way each measure moves under a known fault, tags, and that skin tone is none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from dermjudge.benchmarks.lesions import ATTRIBUTES, SKIN_TONES, render
from dermjudge.judge.errors import InputError
from dermjudge.judge.quality import (
    MEASURES,
    TAGS,
    Limits,
    load_limits,
    picture_quality,
    quality_faults,
    quality_tag,
)

FIRST = {name: values[0] for name, values in ATTRIBUTES.items()}


def lesion(tone="3", seed=0, side=288, site="scalp"):
    """A rendered lesion with hairs, smoothly enlarged so that the noise of the rendering is not all its detail."""
    attributes = FIRST | {"size": "large", "surface": "scaly"}
    picture = Image.fromarray(render(attributes, site, tone, seed))
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def grey(values):
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")


def noisy(picture, sigma, seed=0):
    values = np.asarray(picture, dtype=float)
    return Image.fromarray(
        np.clip(values + np.random.default_rng(seed).normal(0, sigma, values.shape), 0, 255).astype(np.uint8)
    )


def test_sharpness_of_a_wave():
    """The Laplacian of a wave of period p is the wave times 2 cos(2 pi / p) - 2; Immerkaer's mask does not see it."""
    wave = 128 + 100 * np.sin(2 * np.pi * np.arange(256) / 8)
    found = picture_quality(grey(np.tile(wave, (256, 1))))
    assert found.sharpness == pytest.approx((2 - 2 * np.cos(np.pi / 4)) ** 2, rel=0.01)
    assert found.contrast == pytest.approx(100 / np.sqrt(2) / 255, rel=0.01)
    assert found.exposure == pytest.approx(128 / 255, abs=0.002)
    assert found.noise == pytest.approx(0, abs=0.35)  # of rounding


@pytest.mark.parametrize("sigma", [4.0, 10.0, 20.0])
def test_noise_is_measured_in_grey_levels(sigma):
    """Immerkaer 1996 reports errors of some percent on even pictures."""
    values = 128 + np.random.default_rng(1).normal(0, sigma, (400, 400))
    found = picture_quality(grey(values))
    assert found.noise == pytest.approx(sigma, rel=0.05)
    assert found.sharpness == pytest.approx(0, abs=1.0)  # 20 without the correction for noise


def test_blur_lowers_sharpness_step_by_step():
    for tone in ("1", "6"):
        picture = lesion(tone)
        found = [picture_quality(picture.filter(ImageFilter.GaussianBlur(s))).sharpness for s in (0, 1, 2, 4, 8)]
        assert found == sorted(found, reverse=True)
        assert found[0] > 20 * found[-1]


def test_noise_does_not_pass_for_sharpness():
    blurred = lesion().filter(ImageFilter.GaussianBlur(4))
    assert picture_quality(noisy(blurred, 10)).sharpness < 0.5 * picture_quality(lesion()).sharpness


def test_each_fault_moves_its_measure_step_by_step():
    picture = lesion()

    def series(name, copies):
        return [getattr(picture_quality(copy), name) for copy in copies]

    darker = series("exposure", [ImageEnhance.Brightness(picture).enhance(f) for f in (1, 0.6, 0.3, 0.1)])
    assert darker == sorted(darker, reverse=True) and darker[-1] < 0.12 < darker[0]
    lighter = series("clipped", [ImageEnhance.Brightness(picture).enhance(f) for f in (1, 1.6, 2.4)])
    assert lighter == sorted(lighter) and lighter[0] < 0.1 < lighter[-1]
    flatter = series("contrast", [ImageEnhance.Contrast(picture).enhance(f) for f in (1, 0.5, 0.1, 0.02)])
    assert flatter == sorted(flatter, reverse=True) and flatter[-1] < 0.01 < flatter[0]
    grainier = series("noise", [noisy(picture, s) for s in (0, 5, 10, 20)])
    assert grainier == sorted(grainier) and grainier[-1] > 6 > grainier[0]
    smaller = series("resolution", [picture.resize((s, s)) for s in (288, 150, 60)])
    assert smaller == [288, 150, 60]


def spot(place=(150, 150), radius=40, side=300):
    """A dark round spot on even skin with a little grain."""
    y, x = np.mgrid[:side, :side]
    inside = np.hypot(y - place[0], x - place[1]) < radius
    skin = np.where(inside[..., None], (110, 60, 50), (215, 170, 140)).astype(float)
    return noisy(Image.fromarray(skin.astype(np.uint8)), 2)


def test_framing_is_the_share_of_what_stands_out():
    found = [picture_quality(spot(radius=r)).framing for r in (15, 40, 80)]
    assert found == pytest.approx([np.pi * r * r / 300**2 for r in (15, 40, 80)], rel=0.2)
    whole, cut = picture_quality(spot()), picture_quality(spot(place=(20, 150)))
    assert whole.cut == 0
    assert cut.cut == pytest.approx(2 * np.sqrt(40**2 - 20**2) / 1200, rel=0.3)  # the chord on the upper edge


def test_a_black_rim_is_no_margin_and_no_lesion():
    y, x = np.mgrid[:300, :300]
    values = np.array(spot())
    values[np.hypot(y - 150, x - 150) > 140] = 0
    assert picture_quality(Image.fromarray(values)).framing == pytest.approx(np.pi * 40**2 / 300**2, rel=0.3)
    black = picture_quality(Image.new("RGB", (50, 50)))
    assert (black.framing, black.skin) == (None, 0.0)


def test_what_is_not_there_is_none_with_a_reason():
    even = picture_quality(Image.new("RGB", (80, 60), (200, 150, 120)))
    assert (even.sharpness, even.framing, even.cut) == (None, None, None)
    assert even.missing == dict.fromkeys(["sharpness", "framing", "cut"], "the picture is one even colour")
    tiny = picture_quality(Image.new("L", (2, 40), 90))
    assert (tiny.sharpness, tiny.noise) == (None, None)
    assert "fewer than 3 pixels" in tiny.missing["noise"]
    green = np.zeros((60, 60, 3), np.uint8)
    green[..., 1] = np.arange(60)
    assert picture_quality(Image.fromarray(green)).missing["framing"] == "no visible skin"


def test_skin_of_every_tone_is_seen_and_things_are_not():
    shares = [picture_quality(lesion(tone, site="trunk")).skin for tone in SKIN_TONES]
    assert min(shares) > 0.5
    for colour in ((90, 160, 80), (120, 160, 220), (128, 128, 128), (250, 250, 250)):
        assert picture_quality(noisy(Image.new("RGB", (64, 64), colour), 1)).skin < 0.1


def test_a_good_picture_is_good_on_every_skin_tone():
    """A gate on quality must not be a gate on skin."""
    tags = {tone: {quality_tag(picture_quality(lesion(tone, seed))) for seed in range(4)} for tone in SKIN_TONES}
    assert tags == {tone: {"good"} for tone in SKIN_TONES}


def test_tags():
    picture = lesion()
    assert quality_tag(picture_quality(picture)) == "good"
    assert quality_tag(picture_quality(picture.resize((160, 160)))) == "doubtful"
    ruined = picture_quality(noisy(picture.filter(ImageFilter.GaussianBlur(10)).resize((90, 90)), 30))
    faults = quality_faults(ruined)
    assert quality_tag(ruined) == "poor"
    assert [fault.tag for fault in faults] == sorted((fault.tag for fault in faults), key=TAGS.index, reverse=True)
    assert {("resolution", "poor", 90, 96.0), ("noise", "poor")} <= {
        f if f.measure != "noise" else f[:2] for f in faults
    }


def test_limits_are_ordered_and_argued():
    limits = load_limits()
    assert set(limits) <= set(MEASURES)
    assert all(len(limit.why) > 80 for limit in limits.values())
    assert limits["noise"].breach(6.0) is None
    assert limits["noise"].breach(6.1) == ("doubtful", 6.0)
    assert limits["noise"].breach(99.0) == ("poor", 12.0)
    assert limits["sharpness"].breach(0.001) == ("poor", 0.002)
    assert limits["framing"].breach(0.0) == ("doubtful", 0.01)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sharpnes: {below: [1, 0], why: x}", "unknown measure 'sharpnes'; known: sharpness, exposure"),
        ("noise: {above: [5, 2], why: x}", "poor must lie beyond that of doubtful"),
        ("noise: {below: [2, 5], why: x}", "poor must lie beyond that of doubtful"),
        ("noise: {above: [5, 7]}", "why"),
        ("noise: {why: x}", "give one of 'below' and 'above'"),
        ("noise: {above: [5, 7], below: [1, 0], why: x}", "give one of 'below' and 'above'"),
        ("- noise", "a mapping of measures"),
        ("noise: [", "cannot read"),
    ],
)
def test_bad_limits_say_what_is_wrong(tmp_path, text, why):
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(InputError, match=r"limits\.yaml") as caught:
        load_limits(tmp_path / "limits.yaml")
    assert why in str(caught.value)


def test_own_limits(tmp_path):
    (tmp_path / "limits.yaml").write_text("resolution: {below: [5000, 100], why: print}")
    limits = load_limits(tmp_path / "limits.yaml")
    assert limits == {"resolution": Limits(below=(5000, 100), why="print")}
    assert quality_tag(picture_quality(lesion()), limits) == "doubtful"


def test_the_same_pixels_give_the_same_values_whatever_the_mode():
    picture = lesion()
    assert picture_quality(picture) == picture_quality(picture.convert("RGBA"))
    big = picture.resize((1500, 1100), Image.Resampling.BICUBIC)
    small = picture_quality(big.resize((512, 375), Image.Resampling.BOX))
    assert picture_quality(big).contrast == pytest.approx(small.contrast, rel=0.02)
