"""Whether the words beside a code contradict it."""

from __future__ import annotations

from adapter.terminology import Feature, Terminology

_CLEAR_STEM = 3


class Labels:
    """The words of each feature, and what was found out about labels already seen."""

    def __init__(self, terminology: Terminology) -> None:
        self._terminology = terminology
        self._conflicts: dict[tuple[str, tuple[str, ...]], bool] = {}

    def contradict(self, feature: Feature, labels: tuple[str, ...]) -> bool:
        """Wrong code for right words: a label names another feature and not this one (an eGFR under creatinine).

        Laboratories name their tests in plain words, so each label of one counts; elsewhere the labels count together.
        """
        known = self._conflicts.get((feature.key, labels))
        if known is None:
            texts = labels if feature.group == "laboratory" else (" | ".join(labels),)
            known = any(self._names_another(feature, text) for text in texts)
            self._conflicts[feature.key, labels] = known
        return known

    def _names_another(self, feature: Feature, text: str) -> bool:
        if any(names(word, text) for word in feature.never):
            return True
        if any(names(word, text) for word in feature.words):
            return False
        return any(names(word, text) for other in self._terminology.features.values() for word in other.words)


def names(word: str, text: str) -> bool:
    """Whether the word stands in the text on its own, or begins one of its words when it is long enough to be clear."""
    position = text.find(word)
    while position >= 0:
        before = text[position - 1] if position else " "
        after = text[position + len(word)] if position + len(word) < len(text) else " "
        if not before.isalnum() and (not after.isalnum() or len(word) > _CLEAR_STEM):
            return True
        position = text.find(word, position + 1)
    return False
