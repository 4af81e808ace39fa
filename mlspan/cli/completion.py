"""Completion of commands and options in bash, zsh and fish: ``mlspan --install-completion``.

The shell's function calls ``mlspan`` with the words before the cursor, one a line, in ``MLSPAN_COMPLETE_WORDS``, and
gets one suggestion a line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from .arguments import Parameter, UsageError, find_named, read_parameters
from .commands import COMMANDS, ROOT_OPTIONS, load_command

WORDS_VARIABLE: Final = "MLSPAN_COMPLETE_WORDS"
SCRIPTS: Final = {
    "bash": """\
_mlspan_completion() {
    local IFS=$'\\n'
    COMPREPLY=($(MLSPAN_COMPLETE_WORDS="${COMP_WORDS[*]:1:COMP_CWORD}" "$1" 2>/dev/null))
}
complete -o default -o bashdefault -F _mlspan_completion mlspan
""",
    "zsh": """\
#compdef mlspan
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_mlspan_completion() {
    local -a found
    found=("${(@f)$(MLSPAN_COMPLETE_WORDS="${(F)words[2,CURRENT]}" $words[1] 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -- $found; else _files; fi
}
compdef _mlspan_completion mlspan
""",
    "fish": """\
function __mlspan_completion
    set -lx MLSPAN_COMPLETE_WORDS (string join \\n -- (commandline -opc)[2..] (commandline -ct) | string collect -N)
    mlspan 2>/dev/null
end
complete -c mlspan -a '(__mlspan_completion)'
""",
}


def suggest_words(typed: str) -> Iterator[str]:
    """Yield what the last of the words can become."""
    *before, last = typed.split("\n")
    command = next((word for word in before if word in COMMANDS), "")
    found = load_command(command) if command else None
    if isinstance(found, Mapping):
        inner = next((word for word in before[before.index(command) + 1 :] if word in found), None)
        if inner is None:
            yield from (name for name in found if name.startswith(last))
            return
        found = found[inner]
    if found is None:
        is_unknown = any(not word.startswith("-") for word in before)
        names = [] if is_unknown else [*COMMANDS, *ROOT_OPTIONS, "--help", "--verbose"]
        yield from (name for name in names if name.startswith(last))
        return
    named: dict[str, Parameter] = find_named(read_parameters(found))
    asked = named.get(before[-1])
    if asked is not None and not asked.is_switch:
        yield from (choice for choice in asked.choices if choice.startswith(last))
    elif last.startswith("-"):
        yield from (name for name in (*named, "--help", "--verbose") if name.startswith(last))


def find_shell() -> str:
    """Return the shell of the user, by its name.

    Raises:
        UsageError: if it is none that is known.
    """
    name = Path(os.environ.get("SHELL", "")).name
    if name not in SCRIPTS:
        raise UsageError(f"cannot tell the shell from SHELL={name or 'nothing'}: name bash, zsh or fish")
    return name


def install_script(shell: str) -> Path:
    """Write the shell's script where new shells read it, and return its path."""
    home = Path.home()
    if shell == "fish":
        path = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish/completions/mlspan.fish"
    else:
        path = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / f"mlspan/completion.{shell}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SCRIPTS[shell], encoding="utf-8")
    if shell != "fish":
        settings = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc" if shell == "zsh" else home / ".bashrc"
        line = f'[ -r "{path}" ] && . "{path}"  # completion of mlspan\n'
        before = settings.read_text(encoding="utf-8") if settings.exists() else ""
        if line not in before:
            settings.write_text(
                before + ("\n" if before and not before.endswith("\n") else "") + line, encoding="utf-8"
            )
    return path
