"""What the tables of ``cxr-dicom.toml`` are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_AE_CHARACTER = r"[\x21-\x5b\x5d-\x7e]"  # PS3.5 6.2: no backslash, and no space at either end
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=rf"^{_AE_CHARACTER}([ ]*{_AE_CHARACTER})*$")]
Sender = Annotated[  # a calling AE title, or who showed a token (`visitors.Visitor.sender`)
    str, Field(pattern=rf"^({_AE_CHARACTER}([\x20-\x5b\x5d-\x7e]{{0,14}}{_AE_CHARACTER})?|WEB:[\w.@+-]{{1,64}})$")
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def _word(text: str) -> str:
    if not text.split():
        raise ValueError("expected a word, found blanks")
    return text


Word = Annotated[str, Field(max_length=64), AfterValidator(_word)]


class Table(BaseModel):
    """A table of ``cxr-dicom.toml``: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values; a `cached_property` of it is worked out anew."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied
