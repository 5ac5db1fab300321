"""The board: a frozen suite on which everyone plays the same tasks, and a card of each player."""

from aiecof.doors import open_door

_PLACES = dict.fromkeys(("CHOOSING", "SEEDS", "SETTINGS", "VERSION"), "aiecof.board.suite")
_PLACES |= dict.fromkeys(("board", "compare", "ranked", "read_card", "verify_card"), "aiecof.board.cards")
__all__ = [*_PLACES]
__getattr__, __dir__ = open_door(__name__, _PLACES)
