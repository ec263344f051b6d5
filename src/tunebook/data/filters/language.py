"""Drop rows that are not written in the wanted language."""

from __future__ import annotations

import functools
from typing import Annotated, Any

from tunebook.data.filters.chain import Filter
from tunebook.data.filters.settings import Between
from tunebook.data.filters.words import trained_texts
from tunebook.errors import DataError
from tunebook.records import Example


class Language(Filter):
    """Drops rows whose answer (or text) is in none of the `languages` (ISO 639-1: `en de`).

    py3langid (a naive Bayes over byte n-grams; Lui and Baldwin 2012) decides, offline and the same
    everywhere, from `characters` taken in equal parts from the beginning, middle and end. A row
    with fewer than `min_letters` letters, or whose language has a probability below
    `min_probability`, stays: a few words are no evidence.
    """

    def __init__(
        self,
        languages: str = "en",
        min_probability: Annotated[float, Between(0, 1)] = 0.5,
        min_letters: Annotated[int, Between(1)] = 20,
        characters: Annotated[int, Between(60)] = 300,
    ) -> None:
        self.languages = frozenset(languages.lower().replace(",", " ").split())
        self.min_probability, self.min_letters = min_probability, min_letters
        self.characters = characters
        unknown = sorted(self.languages - set(_identifier().labels))
        if unknown or not self.languages:
            raise ValueError(
                f"languages is {languages!r}; say codes of two letters, such as `en de`"
            )

    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it."""
        looked_at = _parts(" ".join(trained_texts(example)), self.characters)
        if sum(map(str.isalpha, looked_at)) < self.min_letters:
            return None
        language, probability = _identifier().classify(looked_at)
        if language in self.languages or probability < self.min_probability:
            return None
        return f"language {language}"

    def fingerprint(self) -> str:
        """Name the model that decides, since another may decide otherwise."""
        import py3langid

        return f"py3langid {py3langid.__version__}"


def _parts(text: str, n_characters: int) -> str:
    if len(text) <= n_characters:
        return text
    part = n_characters // 3
    middle = (len(text) - part) // 2
    return f"{text[:part]} {text[middle : middle + part]} {text[-part:]}"


@functools.cache
def _identifier() -> Any:
    """Load the model once per process; it takes most of a second."""
    try:
        from py3langid import langid
    except ImportError:
        raise DataError(
            "filter language needs py3langid; pip install 'tunebook[language]'"
        ) from None
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
