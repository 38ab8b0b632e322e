r"""What a text of the configuration means: `~` at the start of a path, `\n` and `\t` in what a prompt is made of."""

from __future__ import annotations

import os.path
import re

# LaTeX commands that begin with n or t; those that begin with `text` are all commands.
LATEX = frozenset(
    """
    nabla natural nbsp ncong ne nearrow neg negmedspace negthickspace negthinspace neq newcommand newenvironment newline
    newpage nexists ngeq ngeqq ngeqslant ngtr ni nleftarrow nLeftarrow nleftrightarrow nLeftrightarrow nleq nleqq
    nleqslant nless nmid nobreak nobreakspace nocite noindent nolimits nolinebreak nonumber nopagebreak normalfont
    normalsize not notag notin notni nparallel nprec npreceq nrightarrow nRightarrow nshortmid nshortparallel nsim
    nsubseteq nsubseteqq nsucc nsucceq nsupseteq nsupseteqq ntriangleleft ntrianglelefteq ntriangleright
    ntrianglerighteq nu nvdash nvDash nVdash nVDash nwarrow
    tabular tabularnewline tag tan tanh tau tbinom tfrac tg th therefore thetasym theta thickapprox thicksim thickspace
    thinspace thispagestyle tilde times tiny title to today top triangle triangledown triangleleft trianglelefteq
    triangleq triangleright trianglerighteq tt twocolumn twoheadleftarrow twoheadrightarrow
    """.split()  # noqa: SIM905
)
BREAKS = {"n": "\n", "t": "\t"}
ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\([nt])([A-Za-z]*)")


def home_expanded(path: str) -> str:
    """A path whose `~` or `~USER` at the start stands for a home folder; any other text unchanged."""
    return os.path.expanduser(path)


def with_line_breaks(text: str) -> str:
    r"""A text whose `\n` and `\t` are line breaks and tabs, as in most languages.

    LaTeX commands stay (`\neq`, `\text{}`), and so does what follows an escaped backslash (`\\n`).
    """

    def meant(found: re.Match[str]) -> str:
        escaped, letter, rest = found.groups()
        command = letter + rest
        if command in LATEX or command.startswith("text"):
            return found.group()
        return f"{escaped}{BREAKS[letter]}{rest}"

    return ESCAPE.sub(meant, text)
