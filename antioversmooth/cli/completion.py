"""Completion for bash and zsh of `antioversmooth` and `launch.py`, also behind `python` and `python
-m`.

shtab turns the parsers into a shell function for each program; what follows here adds the words
that only the project knows. Names of rows, tables, figures, profiles and clusters are read from
`experiments/` by the shell itself when somebody presses Tab; keys and choices of a spec are written
into the script. So no Python starts at a Tab.
"""

from __future__ import annotations

import argparse
import re
import runpy
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path

from antioversmooth.cli.requests import Command

SHELLS = ("bash", "zsh")
PROGRAMS = ("antioversmooth", "launch.py")
KINDS = {
    "SPEC|KEY=VALUE": "specs",
    "FIGURE|KEY=VALUE": "figures",
    "ROW|KEY=VALUE": "rows",
    "RUN|SPEC|KEY=VALUE": "specs",
    "TABLE|FILE.json|KEY=VALUE": "tables",
    "KEY=VALUE": "overrides",
    "SPEC": "rows",
    "ROW": "rows",
    "TABLE": "tables",
    "NAME": "clusters",
}
"""What an argument takes, by its metavar."""
FILES = ("SOURCE", "RUN", "BUNDLE", "ARCHIVE", "DIR")
"""Those that take files though they are no `Path`."""
FOLDERS = {
    "specs": ("", "tables"),
    "rows": ("",),
    "tables": ("tables",),
    "figures": ("figures",),
    "overrides": (),
    "clusters": ("cluster",),
}
"""Where the names of each kind lie in `experiments/`."""
WITH_OVERRIDES = ("specs", "rows", "tables", "figures", "overrides")


def script(shell: str, commands: Mapping[str, Command], project: Path) -> str:
    """What a shell has to source.

    Args:
        project: Holds launch.py.
    """
    import shtab

    parsers = [_antioversmooth(commands), runpy.run_path(str(project / "launch.py"))["parser"]()]
    generated = [shtab.complete(_marked(parser), shell) for parser in parsers]
    ending = BASH if shell == "bash" else ZSH
    return "\n".join([*map(_unregistered, generated), *_words(), *_kinds(shell), ending])


def _antioversmooth(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(PROGRAMS[0])
    words = parser.add_subparsers(dest="command")
    for name, command in commands.items():
        command.arguments(words.add_parser(name, help=command.help))
    return parser


def _marked(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser, its arguments marked with the shell function that completes them."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _marked(inner)
        elif not action.choices and action.nargs != 0:
            kind = KINDS.get(str(action.metavar or action.dest))
            # `file` in the name: shtab then completes as for files, and a folder stays open
            functions = dict.fromkeys(SHELLS, f"_antioversmooth_{kind}_file")
            wants_file = action.type is Path or action.metavar in FILES
            if kind or wants_file:
                vars(action)["complete"] = functions if kind else shtab.FILE
    return parser


def _unregistered(generated: str) -> str:
    """shtab's functions without its last lines, which would register them for one name only.

    For zsh, shtab completes only the first of an argument's many words; `*:` is all of them.
    """
    generated = re.sub(r'"\(\*\)::?', '"*:', generated).replace(
        "one_or_more='(*)'", "one_or_more='*:'"
    )
    for start in ("\ncomplete -o ", "\ntypeset -A opt_args\n"):
        generated = generated.partition(start)[0]
    return re.sub(r"^#compdef .*\n", "", generated)


def _words() -> Iterator[str]:
    """Functions that both shells know: names in `experiments/`, keys of a spec, and the choices of
    a key."""
    from antioversmooth.spec import fields

    yield NAMES
    keys = [
        f"{section}.{name}"
        for section, part in fields.sections().items()
        for name in fields.hints(part)
    ]
    yield f"_antioversmooth_keys() {{\n  printf '%s=\\n' {' '.join(keys)}\n}}"
    yield "_antioversmooth_choices() {\n  case $1 in"
    yield (
        "    profile) _antioversmooth_names profile ;;\n    cluster) _antioversmooth_names"
        " cluster ;;"
    )
    for section, part in fields.sections().items():
        for name, hint in fields.hints(part).items():
            kind = fields.unwrap(hint)[0]
            if kind is bool:
                yield f"    {section}.{name}) printf '%s\\n' true false ;;"
            elif isinstance(kind, type) and issubclass(kind, Enum):
                yield (
                    f"    {section}.{name}) printf '%s\\n'"
                    f" {' '.join(choice.name for choice in kind)} ;;"
                )
    yield "  esac\n}"


def _kinds(shell: str) -> Iterator[str]:
    """The function that completes each kind of argument."""
    for kind, folders in FOLDERS.items():
        places = " ".join(f"'{folder}'" for folder in folders)
        names = (
            f'"$(for folder in {places}; do _antioversmooth_names "$folder"; done)"'
            if places
            else "''"
        )
        overrides = int(kind in WITH_OVERRIDES)
        yield (
            f"_antioversmooth_{kind}_file() {{\n  _antioversmooth_{shell} {overrides} {names}"
            ' "$1"\n}'
        )


NAMES = r"""
# names of the specs in a folder of the project's experiments/
_antioversmooth_names() {
  local project="$PWD"
  while [[ -n $project && ! -d $project/experiments ]]; do project="${project%/*}"; done
  (cd "$project/experiments/$1" && printf '%s\n' *.yaml) 2>/dev/null | sed -n 's/\.yaml$//p' | grep -v '[*]'
}

# what may begin a word: names; profile= and the sections of a spec; once there is a dot, the keys
_antioversmooth_beginnings() { # WITH_OVERRIDES NAMES WORD
  printf '%s\n' "$2"
  [[ $1 = 1 ]] || return 0
  case $3 in
    '') echo 'profile=' ;;
    *.*) _antioversmooth_keys ;;
    *) printf '%s\n' profile= cluster=; _antioversmooth_keys | sed 's/[.].*/./' | sort -u ;;
  esac
}
"""

BASH = r"""
# prints what fits the word: bash ends one at each =, so that a value and its key are words of their own
_antioversmooth_bash() { # WITH_OVERRIDES NAMES WORD
  local word="$3" key=
  if [[ $word == = ]]; then
    key="${COMP_WORDS[COMP_CWORD-1]}" word=
  elif [[ ${COMP_WORDS[COMP_CWORD-1]} == = ]]; then
    key="${COMP_WORDS[COMP_CWORD-2]}"
  fi
  if [[ -n $key ]]; then
    [[ $1 = 1 ]] && compgen -W "$(_antioversmooth_choices "$key")" -- "$word"
  elif [[ $word == */* || $word == .* || $word == '~'* ]]; then
    compgen -f -- "$word"
  else
    compgen -W "$(_antioversmooth_beginnings "$1" "$2" "$word")" -- "$word"
  fi
  return 0
}

# COMP_WORDS from the program on: python launch.py, python -m antioversmooth, or the program itself
_antioversmooth_complete() {
  local skip=0 word
  case "${COMP_WORDS[0]##*/}" in
    python*)
      if [[ ${COMP_WORDS[1]} == -m ]]; then skip=2; else skip=1; fi
      (( COMP_CWORD > skip )) || return 0 ;;
  esac
  case "${COMP_WORDS[skip]##*/}" in
    antioversmooth) word=antioversmooth ;;
    launch.py) word=launch_py ;;
    *) return 0 ;;
  esac
  local -a COMP_WORDS=("${COMP_WORDS[@]:skip}")
  local COMP_CWORD=$(( COMP_CWORD - skip ))
  "_shtab_$word"
  if [[ ${#COMPREPLY[@]} = 1 && ${COMPREPLY[0]} == *[.=] && ! -e ${COMPREPLY[0]} ]]; then compopt -o nospace; fi
}

complete -o bashdefault -o default -F _antioversmooth_complete antioversmooth launch.py python python3
"""

ZSH = r"""
_antioversmooth_zsh() { # WITH_OVERRIDES NAMES
  local word="$PREFIX"
  if [[ $1 = 1 && $word == *=* ]]; then
    compset -P '*='
    compadd -- ${(f)"$(_antioversmooth_choices "${word%%=*}")"}
  elif [[ $word == */* || $word == .* || $word == '~'* ]]; then
    _files
  else
    local -a all=(${(f)"$(_antioversmooth_beginnings "$1" "$2" "$word")"})
    compadd -- ${all:#*[.=]}
    compadd -S '' -- ${(M)all:#*[.=]}
  fi
}

# words from the program on: python launch.py, python -m antioversmooth, or the program itself
_antioversmooth_complete() {
  local skip=0
  if [[ ${words[1]:t} == python* ]]; then
    if [[ $words[2] == -m ]]; then skip=2; else skip=1; fi
    if (( CURRENT <= skip + 1 )) || [[ ${words[skip+1]:t} != (antioversmooth|launch.py) ]]; then
      if (( $+functions[_python] )); then _python; else _default; fi
      return
    fi
    shift $skip words
    (( CURRENT -= skip ))
  fi
  local -A opt_args
  "_shtab_${${words[1]:t}/./_}"
}

compdef _antioversmooth_complete antioversmooth launch.py python python3
"""
