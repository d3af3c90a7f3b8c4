"""The two things of draccus that are used: a registry of config classes, and decoding a tree into one of them."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar


class ChoiceRegistry:
    """A base whose subclasses register under a name."""

    _choices: ClassVar[dict[str, type]]

    def __init_subclass__(cls) -> None:
        if ChoiceRegistry in cls.__bases__:
            cls._choices = {}

    @classmethod
    def register_subclass(cls, name: str) -> Callable[[type], type]:
        def register(choice: type) -> type:
            cls._choices[name] = choice
            return choice

        return register

    @classmethod
    def get_known_choices(cls) -> dict[str, type]:
        return cls._choices

    @classmethod
    def get_choice_name(cls, choice: type) -> str:
        return next(name for name, known in cls._choices.items() if known is choice)


def decode(cls: Any, raw: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The choice that `raw["type"]` names, from the other keys."""
    return cls.get_known_choices()[raw["type"]](**{key: value for key, value in raw.items() if key != "type"})
