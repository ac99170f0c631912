"""dermjudge: scores diagnostic narratives about skin images and says whether the score may be believed."""

__version__ = "0.1.0"
