"""Options that take one value, given twice: the last of them would stand for all, without a word."""

from __future__ import annotations

from collections import Counter
from typing import Any

from typer.core import TyperCommand

from ..errors import InputError


class Once(TyperCommand):
    """A verb whose options of one value are given once; switches may be repeated, and options made for several."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words that are left, as of any command.

        Raises
        ------
        InputError
            If an option that takes one value was given more often.
        """
        words = list(args)  # the parser takes them off the list
        left = super().parse_args(ctx, args)
        order = self.make_parser(ctx).parse_args(args=words)[2]
        for option, times in Counter(order).items():
            if times > 1 and not (getattr(option, "is_flag", False) or getattr(option, "multiple", False)):
                name, often = max(option.opts, key=len), "twice" if times == 2 else f"{times} times"
                raise InputError(f"{name} was given {often}", cure="it takes one value, so leave out the others")
        return left
