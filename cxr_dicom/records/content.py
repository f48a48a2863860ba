"""What the pixels say of a picture: whether it is a frontal chest, and how it is stored against its header."""

from __future__ import annotations

from dataclasses import dataclass

from cxr_dicom.records.plane import TURNS, Orientation
from cxr_dicom.records.words import WayWord

_UPRIGHT = Orientation()
_TURNED = {  # what brings the picture upright, and how it lies
    Orientation(transpose=True, flip_rows=True): WayWord.TURNED_90,
    Orientation(flip_rows=True, flip_columns=True): WayWord.TURNED_180,
    Orientation(transpose=True, flip_columns=True): WayWord.TURNED_270,
}
_MIRROR = Orientation(flip_columns=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """A way in which a picture may be stored, by what makes a frontal chest of it as it hangs."""

    turn: Orientation = _UPRIGHT  # from the picture as declared
    inverted: bool = False  # dense is dark

    @property
    def rotation(self) -> Orientation:
        """The turn without its mirror: the head is up after it, right and left are as they were."""
        return self.turn.then(_MIRROR) if self.turn.is_mirror else self.turn

    @property
    def words(self) -> tuple[WayWord, ...]:
        """How the picture is stored, one word for each thing; empty when as declared."""
        mirrored = (WayWord.MIRRORED,) if self.turn.is_mirror else ()
        turned = (_TURNED[self.rotation],) if self.rotation != _UPRIGHT else ()
        return (*mirrored, *turned, *((WayWord.INVERTED,) if self.inverted else ()))


AS_DECLARED = Way()
WAYS = tuple(Way(turn=turn, inverted=inverted) for inverted in (False, True) for turn in TURNS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What was found of the content of one image, where an anatomy was looked for."""

    doubt: str = ""  # why the picture is no plausible frontal chest the way round that it was taken; empty when it is
    way: Way = AS_DECLARED  # how it is stored against its header
    corrected: bool = False  # it was brought upright before the models saw it

    @property
    def passed(self) -> bool:
        """Whether measurements may be called: a plausible frontal chest whose sides and grey values are as declared."""
        turned = self.way.rotation != _UPRIGHT and not self.corrected
        return not (self.doubt or turned or self.way.turn.is_mirror or self.way.inverted)

    @property
    def is_familiar(self) -> bool:
        """Whether the models saw a chest as those that they learnt from: upright, dense is bright. A mirror is one."""
        changed = self.way.rotation != _UPRIGHT or self.way.inverted
        return not self.doubt and (self.corrected or not changed)

    @property
    def word(self) -> str:
        """One word for tables: ``as_declared``, ``doubtful``, or the words of the way, joined with ``+``."""
        return "+".join(self.way.words) or ("doubtful" if self.doubt else "as_declared")

    @property
    def sentence(self) -> str:
        """What a reader must know; empty when there is nothing."""
        if not self.way.words:
            return f"no plausible frontal chest: {self.doubt}" if self.doubt else ""
        seen = "the picture is " + " and ".join(_SAID[word] for word in self.way.words)
        return f"{seen}, which the header does not say{self._done}"

    @property
    def _done(self) -> str:
        left = "; right and left are as declared" if self.way.turn.is_mirror else ""
        if not self.corrected:
            return left
        done = [
            text
            for text in (
                "turned upright" if self.way.rotation != _UPRIGHT else "",
                "inverted back" if self.way.inverted else "",
            )
            if text
        ]
        return f"; {' and '.join(done)} before it was analysed{left}"


_SAID = {
    WayWord.MIRRORED: "mirrored (or the heart lies on the patient's right: situs inversus)",
    WayWord.TURNED_90: "turned by 90 degrees clockwise",
    WayWord.TURNED_180: "upside down",
    WayWord.TURNED_270: "turned by 90 degrees counterclockwise",
    WayWord.INVERTED: "inverted (dense is dark)",
}
