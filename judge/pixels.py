"""From any pixels that Pillow decodes to upright 8-bit sRGB, with a note for every step that changed them."""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, TiffImagePlugin

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_TELLING = (
    ExifTags.Base.ImageDescription, ExifTags.Base.Artist, ExifTags.Base.Make, ExifTags.Base.Model,
    ExifTags.Base.DateTime, ExifTags.Base.HostComputer, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo,
)  # fmt: skip
_SRGB = re.compile(r"sRGB(?!.*(linear|g10))", re.IGNORECASE)
_SPACES = {"RGB": "RGB", "CMYK": "CMYK", "L": "GRAY", "LAB": "Lab"}  # Pillow's mode: the colour space in ICC profiles


def to_srgb(image: ImageFile.ImageFile) -> tuple[Image.Image, list[str]]:
    """Decode to the end, turn upright by EXIF, convert to RGB; returns the picture and the notes.

    Transparent parts are shown on white, 16-bit values are scaled by their bit depth, colours go through the embedded
    ICC profile where there is one. ValueError for pixels without a declared white (32 bits, floating point); what
    Pillow raises for damaged files.
    """
    notes = []
    if ";16" in str(image.tile) and image.mode != "I;16":
        notes.append("16 bits per channel reduced to 8")
    upright = _turn(image, notes)
    alpha = None
    if upright.mode.startswith("I;16"):
        upright, alpha = _scale_16(upright, image, notes)
    elif upright.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        if upright.mode in ("P", "PA"):
            notes.append("palette resolved")
        upright = (upright.convert("LA") if upright.mode == "La" else upright).convert("RGBA")
        alpha = upright.getchannel("A")
        upright = upright.convert("RGB")
    elif upright.mode == "1":
        upright = upright.convert("L")
    elif upright.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits have no declared white; save the picture with 8 or 16 bits")
    elif upright.mode not in _SPACES:  # YCbCr, RGBX
        upright = upright.convert("RGB")
    rgb = _manage_colour(upright, image.info.get("icc_profile"), notes)
    if alpha is not None and np.asarray(alpha).min() < 255:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
        notes.append("transparent parts shown on white")
    return rgb, notes


def _turn(image: ImageFile.ImageFile, notes: list[str]) -> Image.Image:
    kinds = {"exif": "EXIF", "xmp": "XMP", "XML:com.adobe.xmp": "XMP", "comment": "comment", "photoshop": "Photoshop"}
    found = dict.fromkeys(name for key, name in kinds.items() if key in image.info)
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        if "EXIF" not in found and any(tag in exif for tag in _TELLING):  # TIFF keeps them among its own tags
            found["EXIF"] = None
        if ExifTags.IFD.GPSInfo in exif:
            found["GPS position"] = None
    except Exception:  # a damaged EXIF block says nothing about the pixels
        orientation = 1
        notes.append("EXIF is damaged: taken as upright")
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # which turns itself when it loads
        orientation = image.tag_v2.get(ExifTags.Base.Orientation, 1)
        image.load()
        upright: Image.Image = image
    else:
        image.load()
        upright = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
    if orientation in _TURNS:
        notes.append(f"EXIF orientation {orientation} applied")
    if found:
        notes.append(f"metadata dropped: {', '.join(found)}")
    return upright


def _scale_16(image: Image.Image, source: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """Grey of up to 16 bits; Pillow itself would clip 256 and above to white."""
    values = np.asarray(image).astype(np.uint16)
    bits, white_is_zero = 16, False
    if isinstance(source, TiffImagePlugin.TiffImageFile):
        bits = source.tag_v2.get(258, (16,))[0]
        white_is_zero = source.tag_v2.get(262) == 0  # Pillow turns these values round for 8 bits only
    top = 2**bits - 1
    alpha = None
    if isinstance(hidden := source.info.get("transparency"), int):
        alpha = Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8))
    grey = np.rint((top - values if white_is_zero else values) * (255 / top))
    notes.append(f"{bits} bits of grey scaled to 8")
    return Image.fromarray(grey.astype(np.uint8)), alpha


def _manage_colour(image: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    if icc or image.mode == "LAB":
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc) if icc else ImageCms.createProfile("LAB"))
            space = profile.profile.xcolor_space.strip()
            if space != _SPACES[image.mode]:
                notes.append(f"ICC profile ignored: it is for {space}, the pixels are {image.mode}")
            elif image.mode == "RGB" and _SRGB.match(profile.profile.profile_description or ""):
                return image  # not converted from itself, so that tagged and untagged pixels stay equal
            else:
                srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
                converted = ImageCms.profileToProfile(image, profile, srgb, intent, "RGB")
                if converted is not None:  # it is only for conversions in place
                    notes.append(f"{image.mode} to sRGB by its {'ICC profile' if icc else 'definition'}")
                    return converted
        except (ImageCms.PyCMSError, OSError, ImportError) as error:
            if image.mode == "LAB":
                raise ValueError("Lab colours cannot be converted") from error
            notes.append("ICC profile ignored: it cannot be used")
    if image.mode == "CMYK":
        notes.append("CMYK to RGB without a profile")
    return image if image.mode == "RGB" else image.convert("RGB")
