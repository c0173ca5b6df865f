"""The completion script for bash and zsh: `antioversmooth`, `launch.py`, and both behind `python`.

shtab generates a shell function from each parser. This module adds the words that only the project
knows. The shell itself reads the names of rows, tables, figures, profiles and clusters from
`experiments/`; keys and choices of a spec are written into the script. So a Tab starts no Python.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import shtab

from antioversmooth.cli import parsers
from antioversmooth.config import Experiment
from antioversmooth.config.types import type_hints, unwrap_optional
from antioversmooth.constraints import NAME
from antioversmooth.spec import fields

SHELLS = ("bash", "zsh")
PROGRAMS = ("antioversmooth", "launch.py")
KINDS = {
    "SPEC|KEY=VALUE": "specs",
    "SPEC|DIR|KEY=VALUE": "specs",
    "FIGURE|KEY=VALUE": "figures",
    "RUN|SPEC|KEY=VALUE": "specs",
    "TABLE|FILE.json|KEY=VALUE": "tables",
    "KEY=VALUE": "overrides",
    "SPEC": "rows",
    "ROW": "rows",
    "TABLE": "tables",
    "NAME": "clusters",
    "DATA": "data",
}
"""The kind of words that an argument takes, by its metavar."""
FILES = ("SOURCE", "RUN", "BUNDLE", "ARCHIVE", "DIR")
"""Metavars of arguments that take files though their type is not `Path`."""
FOLDERS = {
    "specs": ("", "tables"),
    "rows": ("",),
    "tables": ("tables",),
    "figures": ("figures",),
    "overrides": (),
    "clusters": ("cluster",),
    "data": ("data",),
}
"""Folders of `experiments/` that hold the names of each kind."""
WITH_OVERRIDES = ("specs", "rows", "tables", "figures", "overrides")


def completion_script(shell: str) -> str:
    """The text for a shell to source."""
    commands = argparse.ArgumentParser(PROGRAMS[0])
    words = commands.add_subparsers(dest="command")
    for name, command in parsers.COMMANDS.items():
        command.add_arguments(words.add_parser(name, help=command.help))
    both = (commands, parsers.launch_parser())
    generated = [shtab.complete(_add_completers(parser), shell) for parser in both]
    functions = [*map(_strip_registration, generated), *_shared_functions(), *_completers(shell)]
    return "\n".join([*functions, BASH if shell == "bash" else ZSH])


def _add_completers(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Marks each argument with the shell function that completes it; returns the parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _add_completers(inner)
        elif not action.choices and action.nargs != 0:
            kind = KINDS.get(str(action.metavar or action.dest))
            # shtab treats the output of a function with `file` in its name as files: no space
            # follows a folder
            functions = dict.fromkeys(SHELLS, f"_antioversmooth_{kind}_file")
            wants_file = action.type is Path or action.metavar in FILES
            if kind or wants_file:
                vars(action)["complete"] = functions if kind else shtab.FILE
    return parser


def _strip_registration(generated: str) -> str:
    """shtab's functions without its last lines, which register them for one name only.

    For zsh, shtab completes only the first word of an argument with many; `*:` means all of them.
    """
    generated = re.sub(r'"\(\*\)::?', '"*:', generated)
    generated = generated.replace("one_or_more='(*)'", "one_or_more='*:'")
    for start in ("\ncomplete -o ", "\ntypeset -A opt_args\n"):
        generated = generated.partition(start)[0]
    return re.sub(r"^#compdef .*\n", "", generated)


def _shared_functions() -> Iterator[str]:
    """Functions for both shells: names in `experiments/`, keys of a spec, choices of a key."""
    yield NAMES
    kinds = {
        f"{section}.{name}": unwrap_optional(hint)[0]
        for section, part in fields.sections().items()
        for name, hint in type_hints(part).items()
    }
    choices = {key: fields.choices(fields.field_of(Experiment, key), kinds[key]) for key in kinds}
    yield f"_antioversmooth_keys() {{\n  printf '%s=\\n' {' '.join(kinds)}\n}}"
    yield "_antioversmooth_choices() {\n  case $1 in"
    yield from (f"    {kind}) _antioversmooth_names {kind} ;;" for kind in ("profile", "cluster"))
    for key, kind in kinds.items():
        if kind is bool:
            yield f"    {key}) printf '%s\\n' true false ;;"
        elif choices[key]:
            yield f"    {key}) printf '%s\\n' {' '.join(choices[key])} ;;"
    yield "  esac\n}"


def _completers(shell: str) -> Iterator[str]:
    """The shell function that completes each kind of argument."""
    for kind, folders in FOLDERS.items():
        places = " ".join(f"'{folder}'" for folder in folders)
        listed = f'"$(for folder in {places}; do _antioversmooth_names "$folder"; done)"'
        names = listed if places else "''"
        complete = f"_antioversmooth_{shell} {int(kind in WITH_OVERRIDES)} {names}"
        yield f'_antioversmooth_{kind}_file() {{\n  {complete} "$1"\n}}'


# bash expands the words of `compgen -W`, so a file whose name is `$(...)` must not be among them
NAMES = r"""
# names of the specs in a folder of the project's experiments/
_antioversmooth_names() {
  local project="$PWD"
  while [[ -n $project && ! -d $project/experiments ]]; do project="${project%/*}"; done
  (cd "$project/experiments/$1" && printf '%s\n' *.yaml) 2>/dev/null |
    sed -n 's/\.yaml$//p' | LC_ALL=C grep -Ex 'A_NAME'
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
""".replace("A_NAME", NAME)

BASH = r"""
# prints the matches of a word; bash splits words at =, so that key, = and value are three words
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
  if [[ ${#COMPREPLY[@]} = 1 && ${COMPREPLY[0]} == *[.=] && ! -e ${COMPREPLY[0]} ]]; then
    compopt -o nospace
  fi
}

complete -o bashdefault -o default -F _antioversmooth_complete \
  antioversmooth launch.py python python3
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
