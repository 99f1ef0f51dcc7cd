# Types each line of the file CASES into this interactive zsh, completes it, and adds one line to the file OUT for each:
# the matches, separated by tabs. It needs no key: the line editor begins with it.
PROMPT='' RPROMPT=''
fpath=("$COMPLETIONS" $fpath)
autoload -Uz compinit
compinit -u -D
typeset -ga matches

# As Tab would, but the matches are kept instead of shown.
compadd() {
    # What asks for no more than which of its words match.
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a hits
    builtin compadd -A hits "$@"
    matches+=("${hits[@]}")
    builtin compadd "$@"
}

type_cases() {
    local line
    for line in "${(@f)$(<$CASES)}"; do
        BUFFER=$line CURSOR=$#line matches=()
        zle list-choices
        print -r -- ${(pj:\t:)matches} >>$OUT
    done
    exit
}
zle -N zle-line-init type_cases
